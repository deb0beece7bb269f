"""Console output of a run.

The bar and the lines go through the reporter (`neuropbr_core.reporting`). Epochs count from 1.
"""

import os
import re
import sys
from pathlib import Path

import msgspec
from tqdm import tqdm

from neuropbr_core.contracts import EpochSummary, Observer, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.observers.progress import Options
from neuropbr_core.recipe.sections import Training
from neuropbr_core.reporting import ProgressBar, reporter

_WHOLE_EPOCH = re.compile(r"epoch_(\d+)")

_LOSSES = (("loss/total", "G_loss", "Generator Loss"), ("critic/total", "D_loss", "Discriminator Loss"))
"""Metrics of an epoch, with their names beside the bar and in the summary."""

_SHOWN = (
    ("albedo/psnr", "albedo {:.1f} dB"),
    ("roughness/mae", "roughness MAE {:.3f}"),
    ("metallic/mae", "metallic MAE {:.3f}"),
    ("normal/angle", "normal {:.1f}°"),
)
"""The main error of each map, and how a validation line shows it."""


class ProgressObserver(Observer):
    """Shows a bar for each epoch, then the epoch's losses, its validation and the checkpoints that were saved."""

    def __init__(self, options: Options) -> None:
        self._mode = options.bar
        self._bar: ProgressBar | None = None
        self._steps = 0
        self._training = Training()

    def run_started(self, info: RunInfo) -> None:
        """Show the length of the run and its facts."""
        self._training = msgspec.convert({**info.recipe.get("training", {}), "epochs": info.epochs}, Training)  # type: ignore[dict-item]
        epochs = _count(info.epochs, "epoch")
        steps = _count(info.steps_per_epoch, "step")
        reporter().line(f"Run {info.name}: {epochs} of {steps}")
        # The values of all facts start in one column.
        width = max(map(len, info.facts), default=0)
        for name, value in info.facts.items():
            reporter().line(f"  {name:<{width}}  {value}")

    def step_finished(self, info: StepInfo) -> None:
        """Advance the bar; the first step of an epoch opens it."""
        # Counted here, because a resumed epoch has fewer steps than `steps_per_epoch`.
        self._steps += 1
        wanted = self._mode == "on"
        if self._mode == "auto":
            # A log file cannot move its cursor: every update of a bar would be a line of it.
            wanted = sys.stderr.isatty()
        if self._bar is None and wanted:
            # `done` is the position of a resumed run: its bar does not start at 0.
            epoch = f"Epoch {info.epoch + 1}"
            self._bar = reporter().bar(info.steps_per_epoch, epoch, done=info.step, keep=True, shown=True)
        if self._bar is not None:
            self._bar.advance()

    def metrics_logged(self, info: StepInfo, metrics: dict[str, float]) -> None:  # noqa: ARG002 (the contract's signature)
        """Show the latest losses beside the bar."""
        if self._bar is not None:
            self._bar.note(_postfix(metrics))

    def epoch_finished(self, summary: EpochSummary) -> None:
        """Close the bar with the epoch's means, and list them."""
        if self._bar is not None:
            self._bar.note(_postfix(summary.metrics))
        elif "seconds" in summary.metrics:
            # Without a bar, which shows steps and time itself.
            seconds = summary.metrics["seconds"]
            steps = _count(self._steps, "step")
            line = f"Epoch {summary.epoch + 1}: {steps} in {tqdm.format_interval(seconds)}"
            if self._steps and seconds > 0:
                line += f" ({self._steps / seconds:.2f}it/s)"
            reporter().line(line)
        self._close()
        reporter().line(f"Epoch {summary.epoch + 1} Summary:")
        for key, _, label in _LOSSES:
            if key in summary.metrics:
                reporter().line(f"  {label}: {_number(summary.metrics[key])}")

    def validation_finished(self, summary: ValidationSummary) -> None:
        """Show one line with the loss, and one with the main error of each map."""
        line = f"[Validation] Epoch {summary.epoch + 1}"
        if "loss" in summary.metrics:
            line += f" - Loss: {_number(summary.metrics['loss'])}"
        reporter().line(line)
        errors = _map_errors(summary.metrics)
        if errors:
            reporter().line(f"  {', '.join(errors)}")

    def checkpoint_saved(self, path: Path, best: bool) -> None:
        """Show the path of a checkpoint that stays, and once more when the checkpoint is the best so far.

        The newest checkpoint is replaced by the next one, unless it is periodic or the last one of the run.
        """
        shown = str(path)
        # Below the current folder, the path that the user would type. Not `resolve`, which would show the target of a
        # link instead of the link that the user chose.
        full = Path(os.path.abspath(path))  # noqa: PTH100
        here = Path.cwd()
        if full.is_relative_to(here):
            shown = str(full.relative_to(here))
        epoch = _WHOLE_EPOCH.fullmatch(path.name)
        if epoch and (self._training.keeps(int(epoch[1])) or int(epoch[1]) == self._training.epochs):
            reporter().line(f"Saved checkpoint: {shown}")
        if best:
            reporter().line(f"Saved best model: {shown}")

    def run_finished(self, summary: dict[str, float]) -> None:
        """Show the metrics of the best checkpoint."""
        self._close()
        parts: list[str] = []
        if "loss" in summary:
            parts.append(f"loss {_number(summary['loss'])}")
        parts += _map_errors(summary)
        if parts:
            reporter().line(f"Best checkpoint: {', '.join(parts)}")

    def run_failed(self, error: BaseException) -> None:  # noqa: ARG002 (who started the run reports the error)
        """Close the bar, so that the error starts on a line of its own."""
        self._close()

    def _close(self) -> None:
        self._steps = 0
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _postfix(metrics: dict[str, float]) -> str:
    parts: list[str] = []
    for key, short, _ in _LOSSES:
        if key in metrics:
            parts.append(f"{short}={_number(metrics[key])}")
    return ", ".join(parts)


def _map_errors(metrics: dict[str, float]) -> list[str]:
    return [text.format(metrics[key]) for key, text in _SHOWN if key in metrics]


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"{number} {noun}"
    return f"{number} {noun}s"


def _number(value: float) -> str:
    """Format with three decimals; a value that would show as nearly 0 gets three significant digits instead."""
    if 0 < abs(value) < 0.01:
        return f"{value:.3g}"
    return f"{value:.3f}"
