"""A run's history on Weights & Biases.

Every row has `global_step` (generator steps so far), which all metrics are plotted against, `epoch` (from 1), and the
journal's metrics below the event that brought them: `train/…`, `epoch/…`, `validation/…`; pictures are `grids/NAME` and
`pictures/NAME/…`. W&B's own step only counts rows: a row whose step lies behind would be dropped.
"""

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from neuropbr_core.contracts import EpochSummary, Observer, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.errors import PluginError
from neuropbr_core.files import write_text
from neuropbr_core.observers.wandb import Options

STATE = "wandb.json"
STEP = "global_step"

_SILENT_MODES = ("offline", "dryrun", "disabled")
"""Modes in which the package must not report about itself either, which it does by default."""

_FAILED, _INTERRUPTED = 1, 255
"""Exit codes that W&B shows as failed and as killed."""


class WandbObserver(Observer):
    """Sends a run to W&B, or writes it to `RUN/wandb` for later.

    A resumed run continues the W&B run whose id `RUN/wandb.json` has. What a run does again after an orderly end is not
    sent again; after a kill it is, because W&B's own process may not have written what it was given. Offline, each part
    of the run has a folder of its own below `RUN/wandb`; their rows count on.

    Args:
        options: The recipe's options.
        run_dir: The run's folder.

    Raises:
        PluginError: The package wandb is not installed.
    """

    def __init__(self, options: Options, run_dir: Path) -> None:
        if (options.mode or os.environ.get("WANDB_MODE")) in _SILENT_MODES:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._wandb = _import_wandb()
        self._options, self._run_dir = options, run_dir
        self._run: Any = None
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
        """Send validation metrics, and pictures when they are wanted."""
        groups = {"grids": summary.images, "pictures": summary.details} if self._options.images else {}
        pictures = {f"{group}/{name}": picture for group, named in groups.items() for name, picture in named.items()}
        self._send("validation", summary.epoch, summary.global_step, summary.metrics, pictures)

    def run_finished(self, summary: dict[str, float]) -> None:
        """Note the best checkpoint's metrics, and end the W&B run."""
        if self._run is not None:
            self._run.summary.update({f"best/{name}": value for name, value in summary.items()})
        self._finish(0)

    def run_failed(self, error: BaseException) -> None:
        """End the W&B run as failed, or as killed when the user stopped it."""
        self._finish(_INTERRUPTED if isinstance(error, KeyboardInterrupt) else _FAILED)

    def _start(self, info: RunInfo | None = None) -> Any:
        self._finish(0)
        resumed = _read_state(self._run_dir / STATE) if info is not None and info.global_step else {}
        self._written, self._rows = resumed.get("written", {}), resumed.get("rows", 0)
        self._sent = dict(self._written)
        options = self._options
        self._run = self._wandb.init(
            project=options.project,
            entity=options.entity,
            name=options.name or self._run_dir.name,
            group=options.group,
            tags=options.tags,
            notes=options.notes,
            mode=options.mode,
            id=resumed.get("id"),
            resume="allow" if resumed else None,
            dir=self._run_dir,
            config=None if info is None else {**info.recipe, "facts": info.facts},
            reinit="create_new",
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
        run = self._run or self._start()
        if step <= self._written.get(event, -1):
            return
        row: dict[str, Any] = {f"{event}/{name}": value for name, value in metrics.items()}
        row |= {name: self._wandb.Image(picture) for name, picture in (pictures or {}).items()}
        run.log({**row, STEP: step, "epoch": epoch + 1}, step=self._rows if run.offline else None)
        self._sent[event] = step
        self._rows += 1
        self._remember()

    def _remember(self) -> None:
        write_text(
            self._run_dir / STATE, json.dumps({"id": self._run.id, "rows": self._rows, "written": self._written}) + "\n"
        )

    def _finish(self, exit_code: int) -> None:
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            self._written = dict(self._sent)
            self._remember()
            self._run = None


def _import_wandb() -> ModuleType:
    """The package; a folder `wandb` that earlier runs left in the current folder is none."""
    try:
        import wandb
    except ImportError as error:
        raise PluginError(_MISSING) from error
    if not hasattr(wandb, "init"):
        raise PluginError(_MISSING)
    return wandb


_MISSING = (
    "observer wandb needs the package wandb, which is not installed: pip install 'neuropbr[wandb]', or take the "
    "observer out of the recipe (observers.wandb: null)"
)


def _read_state(path: Path) -> dict[str, Any]:
    """What the run remembers of its W&B run; empty when that is lost."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and isinstance(state.get("id"), str) else {}
