"""A run's history: one JSON object a line, in the order in which things happened.

Every row has `event`, `time` (ISO 8601, UTC), `epoch` (from 1, as on the console and in checkpoint names; 0 before the
first) and `step` (generator steps so far), then what the event brings:

- `run_started`: `run`, `epochs`, `steps_per_epoch`, `resumed`, `facts`
- `train`: means since the last such row, as `loss/…`, `critic/…`, `grad_norm`, and `lr`, `critic_lr`
- `epoch`: means over the epoch, and `seconds`
- `validation`: `loss` and `<map>/<metric>`
- `checkpoint`: `path` (relative to the run), `best`
- `run_finished`: the best checkpoint's metrics
- `run_failed`: `error`, `message`

A metric that is not finite is null, and `non_finite` says what it was (`nan`, `inf`, `-inf`), so that every line is
valid JSON. A resumed run drops the rows behind the step that it resumes from, so no step is there twice.
"""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neuropbr_core.contracts import EpochSummary, Observer, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_text

FILE_NAME = "metrics.jsonl"


class JournalObserver(Observer):
    """Appends a row for every event but single steps. Each row is on disk before the run goes on.

    Args:
        run_dir: The run's folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._path = run_dir / FILE_NAME
        self._epoch = 0
        self._step = 0

    def run_started(self, info: RunInfo) -> None:
        """Drop what a resumed run will do again, then note the start."""
        self._epoch, self._step = info.start_epoch, info.global_step
        _drop_after(self._path, self._step)
        details = {"run": info.name, "epochs": info.epochs, "steps_per_epoch": info.steps_per_epoch}
        self._append("run_started", {**details, "resumed": info.global_step > 0, "facts": info.facts})

    def step_finished(self, info: StepInfo) -> None:
        """Remember where the run is."""
        self._epoch, self._step = info.epoch + 1, info.global_step

    def metrics_logged(self, info: StepInfo, metrics: dict[str, float]) -> None:
        """Note training metrics."""
        self._epoch, self._step = info.epoch + 1, info.global_step
        self._append("train", metrics)

    def epoch_finished(self, summary: EpochSummary) -> None:
        """Note the epoch's means."""
        self._epoch, self._step = summary.epoch + 1, summary.global_step
        self._append("epoch", summary.metrics)

    def validation_finished(self, summary: ValidationSummary) -> None:
        """Note validation metrics."""
        self._epoch, self._step = summary.epoch + 1, summary.global_step
        self._append("validation", summary.metrics)

    def checkpoint_saved(self, path: Path, best: bool) -> None:
        """Note the checkpoint."""
        inside = path.is_relative_to(self._run_dir)
        shown = str(path.relative_to(self._run_dir) if inside else path)
        self._append("checkpoint", {"path": shown, "best": best})

    def run_finished(self, summary: dict[str, float]) -> None:
        """Note the end."""
        self._append("run_finished", summary)

    def run_failed(self, error: BaseException) -> None:
        """Note why the run ended early."""
        self._append("run_failed", {"error": type(error).__name__, "message": str(error)})

    def _append(self, event: str, details: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = {"event": event, "time": now, "epoch": self._epoch, "step": self._step}
        line = json.dumps(row | _valid(details) | row, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Read a journal's rows in order.

    Args:
        path: The file, or the run's folder.

    Returns:
        The rows. A last line that a killed run left half-written is left out.

    Raises:
        DataError: The file is missing, or another line is no JSON object.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError as error:
        raise DataError(
            f"{file}: the journal cannot be read ({error.strerror}); is the journal observer on?"
        ) from error
    rows = [_parse(line) for line in lines]
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=1):
        if row is None and not (number == len(lines) and not line.endswith("\n")):
            raise DataError(
                f"{file}:{number}: not a JSON object: {line.strip()[:60]!r}; delete the line to read the rest"
            )
    return [row for row in rows if row is not None]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _drop_after(path: Path, step: int) -> None:
    """Rewrite the journal without rows behind `step` and without damaged lines; leave it alone if it has none."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and (row := _parse(line)) and row.get("step", 0) <= step]
    if kept != lines:
        write_text(path, "".join(kept))


def _valid(details: dict[str, Any]) -> dict[str, Any]:
    """The same details with null for what JSON cannot say, and a note of what it was."""
    odd = {key: str(value) for key, value in details.items() if isinstance(value, float) and not math.isfinite(value)}
    plain = {key: None if key in odd else value for key, value in details.items()}
    return {**plain, "non_finite": odd} if odd else plain
