"""A run's history on Weights & Biases.

Every row has `global_step` (generator steps so far; the x axis of all plots), `epoch` (from 1), and the journal's
metrics below the name of their event: `train/…`, `epoch/…`, `validation/…`. Pictures are `grids/NAME` and
`pictures/NAME/…`.
W&B's own step only counts rows, because W&B drops rows whose step is smaller than that of an earlier row.
"""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from neuropbr_core.contracts import EpochSummary, Observer, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.errors import PluginError
from neuropbr_core.files import write_json
from neuropbr_core.observers.wandb import Options
from neuropbr_core.reading import parse_plain, read_bytes

STATE = "wandb.json"
STEP = "global_step"

_SILENT_MODES = ("offline", "dryrun", "disabled")
"""Modes without a network, in which the package must not send reports about its own errors either."""

_FAILED = 1
_INTERRUPTED = 255
"""Exit codes that W&B shows as failed and as killed."""

_MISSING = (
    "observer wandb needs the package wandb, which is not installed: pip install 'neuropbr[wandb]', or take the "
    "observer out of the recipe (observers.wandb: null)"
)


class WandbObserver(Observer):
    """Sends a run to W&B, or writes it to `RUN/wandb` for later.

    A resumed run continues the W&B run whose id is in `RUN/wandb.json`. When the earlier part ended in order, repeated
    steps are not sent again. After a kill they are, because W&B's own process may have lost its last rows. Offline,
    each part of the run has a folder of its own below `RUN/wandb`, and the row numbers continue.

    Args:
        options: The recipe's options.
        run_dir: The run's folder.

    Raises:
        PluginError: The package wandb is not installed.
    """

    def __init__(self, options: Options, run_dir: Path) -> None:
        if (options.mode or os.environ.get("WANDB_MODE")) in _SILENT_MODES:
            # Before the import, which reads the variable. A value that the user set stays.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError as error:
            raise PluginError(_MISSING) from error
        # A folder `wandb`, such as earlier runs leave in the current folder, imports as an empty package.
        if not hasattr(wandb, "init"):
            raise PluginError(_MISSING)
        self._wandb: ModuleType = wandb
        self._options = options
        self._run_dir = run_dir
        self._run: Any = None
        # Last step of each event that was handed to W&B, and the last that is certain to be written.
        self._sent: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._rows = 0

    def run_started(self, info: RunInfo) -> None:
        """Start the W&B run, or continue it when the run was resumed."""
        self._start(info)

    def metrics_logged(self, info: StepInfo, metrics: dict[str, float]) -> None:
        """Send training metrics."""
        self._send("train", info.epoch, info.global_step, metrics)

    def epoch_finished(self, summary: EpochSummary) -> None:
        """Send the epoch's means."""
        self._send("epoch", summary.epoch, summary.global_step, summary.metrics)

    def validation_finished(self, summary: ValidationSummary) -> None:
        """Send validation metrics, and pictures when the option `images` is on."""
        pictures: dict[str, np.ndarray] = {}
        if self._options.images:
            for name, picture in summary.images.items():
                pictures[f"grids/{name}"] = picture
            for name, picture in summary.details.items():
                pictures[f"pictures/{name}"] = picture
        self._send("validation", summary.epoch, summary.global_step, summary.metrics, pictures)

    def run_finished(self, summary: dict[str, float]) -> None:
        """Send the best checkpoint's metrics, and end the W&B run."""
        if self._run is not None:
            self._run.summary.update({f"best/{name}": value for name, value in summary.items()})
        self._finish(0)

    def run_failed(self, error: BaseException) -> None:
        """End the W&B run as failed, or as killed when the user stopped it."""
        exit_code = _FAILED
        if isinstance(error, KeyboardInterrupt):
            exit_code = _INTERRUPTED
        self._finish(exit_code)

    def _start(self, info: RunInfo | None = None) -> Any:
        # An observer may watch several runs; the earlier one is over.
        self._finish(0)
        state: dict[str, Any] = {}
        if info is not None and info.global_step:
            state = _read_state(self._run_dir / STATE)
        self._written = state.get("written", {})
        self._rows = state.get("rows", 0)
        self._sent = dict(self._written)
        resume = None
        if state:
            # `allow`, not `must`: a run that the user deleted on the server starts anew.
            resume = "allow"
        config: dict[str, Any] | None = None
        if info is not None:
            config = {**info.recipe, "facts": info.facts}
        options = self._options
        self._run = self._wandb.init(
            project=options.project,
            entity=options.entity,
            name=options.name or self._run_dir.name,
            group=options.group,
            tags=options.tags,
            notes=options.notes,
            mode=options.mode,
            id=state.get("id"),
            resume=resume,
            dir=self._run_dir,
            config=config,
            # Another W&B run may be active in this process; it goes on beside this one.
            reinit="create_new",
            # W&B would otherwise capture the console's streams, which the progress bar writes to.
            settings=self._wandb.Settings(console="off"),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)
        self._remember()
        return self._run

    def _send(
        self,
        event: str,
        epoch: int,
        step: int,
        metrics: dict[str, float],
        pictures: dict[str, np.ndarray] | None = None,
    ) -> None:
        # A run that fails early calls no `run_started`, and its other events are sent all the same.
        run = self._run or self._start()
        # W&B already has the repeated steps of a resumed run.
        if step <= self._written.get(event, -1):
            return
        row: dict[str, Any] = {}
        for name, value in metrics.items():
            row[f"{event}/{name}"] = value
        if pictures is not None:
            for name, picture in pictures.items():
                row[name] = self._wandb.Image(picture)
        row[STEP] = step
        row["epoch"] = epoch + 1
        row_number = None
        if run.offline:
            # Online, the server continues the numbers; offline, each part of the run would begin at 0.
            row_number = self._rows
        run.log(row, step=row_number)
        self._sent[event] = step
        self._rows += 1
        self._remember()

    def _remember(self) -> None:
        # Written after every row: a run that is killed can still be continued under its id.
        state = {"id": self._run.id, "rows": self._rows, "written": self._written}
        write_json(self._run_dir / STATE, state)

    def _finish(self, exit_code: int) -> None:
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            # `finish` waits for W&B's process, so all that was sent is written.
            self._written = dict(self._sent)
            self._remember()
            self._run = None


def _read_state(path: Path) -> dict[str, Any]:
    """Read the state that `_remember` wrote; empty when the file is missing or damaged."""
    try:
        state = parse_plain(read_bytes(path))
    except (OSError, ValueError):
        return {}
    if isinstance(state, dict) and isinstance(state.get("id"), str):
        return state
    return {}
