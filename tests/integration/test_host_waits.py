"""Between two logs, a training step reads nothing back from the device.

On a CPU nothing has to be waited for, but the operators that would wait for a GPU are the same.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.run import run
from neuropbr_core.testing.loss import WAITS
from neuropbr_core.training.loop.trainer import Trainer

HOST_ONLY = {"taps_needed", "update_parameters"}
"""Functions that read tensors of the host alone: cameras before they are sent, and the average's number of updates."""

GAN = "losses.gan={weight: 0.1, layers: 2, width: 4}"


class Waits(TorchDispatchMode):
    """Notes where an operator is called whose result the host must wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[str, ...]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name
        waits = name in WAITS
        if name == "aten::index":
            waits = any(index is not None and index.dtype == torch.bool for index in args[1])
        if waits:
            self.places.append(tuple(functions()))
        return func(*args, **(kwargs or {}))


def functions() -> Iterator[str]:
    """Names of the functions that are being called, the innermost first."""
    frame = sys._getframe(2)
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    """Note the waits of the epochs' steps; validation and checkpoints are no part of a step."""
    waits = Waits()
    train = Trainer._train_epoch

    def watched(self: Trainer, epoch: int) -> Any:
        with waits:
            return train(self, epoch)

    monkeypatch.setattr(Trainer, "_train_epoch", watched)
    yield waits


@pytest.mark.parametrize("losses", [(), (GAN,)], ids=["no critic", "gan"])
def test_steps_wait_for_logs_alone(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, losses: tuple[str, ...]
) -> None:
    """An epoch of three steps and one log: only the log reads scalars."""
    recipe = make_recipe(*losses, "training.log_every_n_steps=100", "training.epochs=1", "export.torchscript=null")
    with counted(monkeypatch) as waits:
        run(recipe, run_name="waits")
    in_steps = [place for place in waits.places if "check" not in place and not HOST_ONLY & set(place)]
    assert [place[:4] for place in in_steps] == []


def test_a_loss_that_reads_a_scalar_is_noticed(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuropbr_core.training.loop.objective import Objective

    compute = Objective.generator_loss

    def reading(self: Objective, *args: Any, **options: Any) -> Any:
        result = compute(self, *args, **options)
        result.total.item()
        return result

    monkeypatch.setattr(Objective, "generator_loss", reading)
    recipe = make_recipe("training.log_every_n_steps=100", "training.epochs=1", "export.torchscript=null")
    with counted(monkeypatch) as waits:
        run(recipe, run_name="reading")
    assert sum("reading" in place[:3] for place in waits.places) == 3
