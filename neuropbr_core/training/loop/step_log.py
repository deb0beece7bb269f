"""A training epoch's scalars: read from the device when a log is due, checked, averaged."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropbr_core.errors import RunStopped
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.loop.step import GRAD_NORM, Stepped

SKIPPED = "skipped"
"""Steps since the last log that were dropped because something was not finite."""

_CHECKED = ("loss/", "critic/", GRAD_NORM)
"""Prefixes of what must be finite; an error of a map is not when nothing of a batch is seen, and is left out then."""

_MOST_OVERFLOWS = 50
"""Steps in a row whose gradients overflow after which the run stops.

A scaler begins at 2^16 and halves the scale each time. Gradients of up to 2^40 fit after 40 halvings, and no sound
loss has larger ones.
"""

_SUMS = ("loss/total", "loss/reconstruction", "critic/total")


class _Pending(NamedTuple):
    """A step whose scalars are still on the device."""

    step: int
    names: tuple[str, ...]
    values: Tensor
    ids: tuple[str, ...]


class StepLog:
    """Collects scalars of steps without waiting for the device, and stops the run when one is not finite.

    Args:
        fabric: Knows the other processes; logged means are over all of them.
        every: Steps between two logs.
        max_skips: Dropped steps in a row after which the run stops.
        overflows: Whether gradient norms may be infinite, because a gradient scaler deals with it.
        authors: Losses of others by the recipe's name for them, with their distributions and versions.
        networks: Encoder and fusion block, where they are of others, with their distributions and versions.
    """

    def __init__(
        self,
        fabric: Fabric,
        every: int,
        *,
        max_skips: int = 1,
        overflows: bool = False,
        authors: Mapping[str, str] | None = None,
        networks: Sequence[str] = (),
    ) -> None:
        self._fabric = fabric
        self._every = every
        self._max_skips = max_skips
        self._overflows = overflows
        self._authors = authors or {}
        self._networks = networks
        self._pending: list[_Pending] = []
        self._recent: dict[str, list[float]] = {}
        self._epoch: dict[str, list[float]] = {}
        self._skips_in_a_row = 0
        # By the norm's name: the generator's gradients and those of each critic overflow apart.
        self._overflows_in_a_row: dict[str, int] = {}

    def add(self, step: int, epoch: int, stepped: Stepped, ids: Sequence[str]) -> None:
        """Add a step.

        Args:
            step: The step, from 0.
            epoch: Its epoch, from 0.
            stepped: What it did.
            ids: The samples that it saw.

        Raises:
            RunStopped: Too many steps in a row were dropped.
        """
        if stepped.scalars:
            # One tensor a step: reading many small ones would wait for the device each time.
            values = torch.stack([value.float() for value in stepped.scalars.values()])
            self._pending.append(_Pending(step, tuple(stepped.scalars), values, tuple(ids)))
        if not stepped.skipped:
            self._skips_in_a_row = 0
        else:
            self._skips_in_a_row += 1
            self._note(SKIPPED, 1.0)
        # A run that drops every step looks alive and learns nothing.
        if self._skips_in_a_row >= self._max_skips > 0 and stepped.skipped:
            raise RunStopped(
                f"{self._skips_in_a_row} steps in a row were not finite, the last one step {step + 1} of epoch "
                f"{epoch + 1} (samples {', '.join(dict.fromkeys(ids))}); lower optimizer.lr or "
                f"training.grad_clip_norm, set training.precision: fp32, or look at these samples. Checkpoints that "
                f"the run has are from before them"
            )

    def due(self, global_step: int, *, last: bool = False) -> bool:
        """Whether a log is due.

        Args:
            global_step: Steps so far, over all epochs.
            last: Whether the run ends with this step.
        """
        return global_step % self._every == 0 or last

    def check(self, epoch: int) -> None:
        """Read what is still on the device; waits for it.

        Raises:
            RunStopped: Something is not finite; the message names the first term, its step and that step's samples.
        """
        if not self._pending:
            return
        pending = self._pending
        self._pending = []
        # One transfer from the device for all steps since the last log, as `(processes, scalars)`.
        gathered = torch.as_tensor(self._fabric.all_gather(torch.cat([row.values for row in pending])))
        # As float64, so that the mean over processes adds no rounding of its own.
        table = gathered.view(self._fabric.world_size, -1).double().cpu()
        start = 0
        for row in pending:
            part = table[:, start : start + len(row.names)]
            start += len(row.names)
            self._refuse(row, part, epoch)
            self._refuse_overflows(row, part, epoch)
            # What is not finite and was not refused has no error in this step, and no place in the mean.
            for name, value in zip(row.names, part.mean(dim=0).tolist(), strict=True):
                if math.isfinite(value):
                    self._note(name, value)

    def flush(self, epoch: int) -> dict[str, float]:
        """Means since the last flush.

        Raises:
            RunStopped: Something is not finite.
        """
        self.check(epoch)
        recent = self._recent
        self._recent = {}
        return _summaries(recent)

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """Means over the epoch, which ends; what was not logged yet goes into the next log.

        Raises:
            RunStopped: Something is not finite.
        """
        self.check(epoch)
        means = _summaries(self._epoch)
        self._epoch = {}
        return means

    def clear(self) -> None:
        """Forget all steps."""
        self._pending = []
        self._recent = {}
        self._epoch = {}
        self._skips_in_a_row = 0
        self._overflows_in_a_row = {}

    def state_dict(self) -> dict[str, Any]:
        """What a run that resumes here needs; call `check` before."""
        state = {
            "recent": self._recent,
            "epoch": self._epoch,
            "skips_in_a_row": self._skips_in_a_row,
            "overflows_in_a_row": self._overflows_in_a_row,
        }
        # Copied, because training goes on and the lists grow, while the state must stay that of this step.
        return deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._recent = state["recent"]
        self._epoch = state["epoch"]
        self._skips_in_a_row = state["skips_in_a_row"]
        self._overflows_in_a_row = state.get("overflows_in_a_row", {})  # which checkpoints of version 0.2 lack

    def _note(self, name: str, value: float) -> None:
        # A step belongs to the next log and to its epoch, and one may end before the other.
        self._recent.setdefault(name, []).append(value)
        self._epoch.setdefault(name, []).append(value)

    def _refuse(self, row: _Pending, values: Tensor, epoch: int) -> None:
        """Stop the run when a scalar of a step is not finite in any process."""
        checked = []
        for name in row.names:
            may_overflow = self._overflows and name.endswith(GRAD_NORM)
            checked.append(name.startswith(_CHECKED) and not may_overflow)
        broken = ~values.isfinite() & torch.tensor(checked)
        if not broken.any():
            return
        rank = int(broken.any(dim=1).nonzero()[0])
        name = ""
        for index in broken[rank].nonzero().flatten().tolist():
            candidate = row.names[index]
            # A sum is broken because one of its terms is; the term tells more.
            is_term = candidate not in _SUMS and not candidate.endswith(GRAD_NORM)
            if is_term or not name:
                name = candidate
            if is_term:
                break
        check = ""
        if name.endswith(GRAD_NORM):
            check = self._suspects()
        for loss, author in self._authors.items():
            if name.startswith(f"loss/{loss}/"):
                name = f"{name} of {author}"
                check = f". {_check_command(author)} looks for the fault in the loss alone"
                break
        # The samples of the process where it happened: the others trained on other ones.
        ids = self._fabric.broadcast(row.ids, src=rank)
        raise RunStopped(
            f"{name} is not finite in step {row.step + 1} of epoch {epoch + 1} (samples "
            f"{', '.join(dict.fromkeys(ids))}); lower optimizer.lr or training.grad_clip_norm, set training.precision: "
            "fp32, or drop such steps with training.on_nonfinite: skip. Checkpoints saved before this point are "
            f"intact{check}"
        )

    def _refuse_overflows(self, row: _Pending, values: Tensor, epoch: int) -> None:
        """Stop the run when the gradient scaler has dropped too many updates in a row."""
        if not self._overflows:
            return
        for index, name in enumerate(row.names):
            if not name.endswith(GRAD_NORM):
                continue
            if values[:, index].isfinite().all():
                self._overflows_in_a_row[name] = 0
                continue
            self._overflows_in_a_row[name] = self._overflows_in_a_row.get(name, 0) + 1
            # The scaler drops such updates without a word, so that the run would end with the weights it began with.
            if self._overflows_in_a_row[name] >= _MOST_OVERFLOWS:
                raise RunStopped(
                    f"{name} was not finite in {_MOST_OVERFLOWS} steps in a row, the last one step {row.step + 1} of "
                    f"epoch {epoch + 1} (samples {', '.join(dict.fromkeys(row.ids))}), so the gradient scaler dropped "
                    f"all of these updates; lower optimizer.lr, or set training.precision: bf16 or fp32. Checkpoints "
                    f"saved before this point are intact{self._suspects()}"
                )

    def _suspects(self) -> str:
        """Components of others that may have spoiled a gradient; their own values tell nothing of it."""
        others = [*self._networks, *self._authors.values()]
        if not others:
            return ""
        commands = " and ".join(_check_command(author) for author in others)
        return (
            f". All losses are finite, so a component's gradient is not. Of others are {', '.join(others)}: {commands} "
            "tries the gradients of each alone"
        )


def _check_command(author: str) -> str:
    """The command that checks a component; its author begins with KIND/NAME."""
    return f"`neuropbr plugin check {author.split(maxsplit=1)[0]}`"


def _summaries(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Means, except that dropped steps are counted."""
    summaries = {}
    for name, numbers in values.items():
        total = math.fsum(numbers)  # exact, so that a resumed epoch has the mean of one that was not interrupted
        summaries[name] = total if name == SKIPPED else total / len(numbers)
    return summaries
