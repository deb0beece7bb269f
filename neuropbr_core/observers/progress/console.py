"""What a run shows on the console.

Bar and lines go through the reporter (`neuropbr_core.reporting`). Epochs count from 1.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from neuropbr_core.contracts import EpochSummary, Observer, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.observers.progress import Options
from neuropbr_core.reporting import ProgressBar, reporter

_LOSSES = (("loss/total", "G_loss", "Generator Loss"), ("critic/total", "D_loss", "Discriminator Loss"))
_SHOWN = (
    ("albedo/psnr", "albedo {:.1f} dB"),
    ("roughness/mae", "roughness MAE {:.3f}"),
    ("metallic/mae", "metallic MAE {:.3f}"),
    ("normal/angle", "normal {:.1f}°"),
)


class ProgressObserver(Observer):
    """A bar for each epoch, then the epoch's losses, the validation and the checkpoints that were saved."""

    def __init__(self, options: Options) -> None:
        self._mode = options.bar
        self._bar: ProgressBar | None = None
        self._steps = 0

    def run_started(self, info: RunInfo) -> None:
        """Say what will be trained."""
        epochs, steps = _count(info.epochs, "epoch"), _count(info.steps_per_epoch, "step")
        reporter().line(f"Run {info.name}: {epochs} of {steps}")
        width = max(map(len, info.facts), default=0)
        for name, value in info.facts.items():
            reporter().line(f"  {name:<{width}}  {value}")

    def step_finished(self, info: StepInfo) -> None:
        """Advance the bar; the first step of an epoch opens it."""
        self._steps += 1
        if self._bar is None and self._wants_bar():
            epoch = f"Epoch {info.epoch + 1}"
            self._bar = reporter().bar(info.steps_per_epoch, epoch, done=info.step, keep=True, shown=True)
        if self._bar is not None:
            self._bar.advance()

    def metrics_logged(self, info: StepInfo, metrics: dict[str, float]) -> None:  # noqa: ARG002 (the contract's signature)
        """Show the latest losses beside the bar."""
        if self._bar is not None:
            self._bar.note(_postfix(metrics))

    def epoch_finished(self, summary: EpochSummary) -> None:
        """Close the bar with the epoch's means, and sum them up."""
        if self._bar is not None:
            self._bar.note(_postfix(summary.metrics))
        elif "seconds" in summary.metrics:
            reporter().line(_epoch_line(summary, self._steps))
        self._close()
        reporter().line(f"Epoch {summary.epoch + 1} Summary:")
        for key, _, label in _LOSSES:
            if key in summary.metrics:
                reporter().line(f"  {label}: {_number(summary.metrics[key])}")

    def validation_finished(self, summary: ValidationSummary) -> None:
        """One line with the loss, and one with the main error of each map."""
        loss = summary.metrics.get("loss")
        reporter().line(
            f"[Validation] Epoch {summary.epoch + 1}" + ("" if loss is None else f" - Loss: {_number(loss)}")
        )
        if maps := ", ".join(_map_errors(summary.metrics)):
            reporter().line(f"  {maps}")

    def checkpoint_saved(self, path: Path, best: bool) -> None:
        """Name the checkpoint, once more when it is the best so far."""
        shown = _relative(path)
        reporter().line(f"Saved checkpoint: {shown}")
        if best:
            reporter().line(f"Saved best model: {shown}")

    def run_finished(self, summary: dict[str, float]) -> None:
        """Say what the best checkpoint reached."""
        self._close()
        parts = [f"loss {_number(summary['loss'])}"] if "loss" in summary else []
        if reached := ", ".join([*parts, *_map_errors(summary)]):
            reporter().line(f"Best checkpoint: {reached}")

    def run_failed(self, error: BaseException) -> None:  # noqa: ARG002 (who started the run reports the error)
        """Leave the terminal's line to what follows."""
        self._close()

    def _wants_bar(self) -> bool:
        return sys.stderr.isatty() if self._mode == "auto" else self._mode == "on"

    def _close(self) -> None:
        self._steps = 0
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _postfix(metrics: dict[str, float]) -> str:
    return ", ".join(f"{short}={_number(metrics[key])}" for key, short, _ in _LOSSES if key in metrics)


def _epoch_line(summary: EpochSummary, steps: int) -> str:
    seconds = summary.metrics["seconds"]
    took = tqdm.format_interval(seconds)
    rate = f" ({steps / seconds:.2f}it/s)" if steps and seconds > 0 else ""
    return f"Epoch {summary.epoch + 1}: {_count(steps, 'step')} in {took}{rate}"


def _map_errors(metrics: dict[str, float]) -> Iterator[str]:
    return (text.format(metrics[key]) for key, text in _SHOWN if key in metrics)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _number(value: float) -> str:
    """Three digits behind the point, or three significant ones when that would hide a small value."""
    return f"{value:.3f}" if not 0 < abs(value) < 0.01 else f"{value:.3g}"


def _relative(path: Path) -> str:
    """The path as one would type it from here, when it lies below the current folder."""
    full = Path(os.path.abspath(path))  # noqa: PTH100 (links stay as they are)
    here = Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(path)
