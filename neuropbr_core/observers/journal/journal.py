"""A run's history: one JSON object a line, in the order of the events.

Every row has `event`, `time` (ISO 8601, UTC), `epoch` (from 1, as on the console and in checkpoint names; 0 before the
first) and `step` (generator steps so far), and then the fields of the event:

- `run_started`: `run`, `epochs`, `steps_per_epoch`, `resumed`, `facts`
- `train`: means since the last such row, as `loss/…`, `critic/…`, `grad_norm`, and `lr`, `critic_lr`
- `epoch`: means over the epoch, and `seconds`
- `validation`: `loss` and `<map>/<metric>`
- `checkpoint`: `path` (relative to the run), `best`
- `run_finished`: the best checkpoint's metrics
- `run_failed`: `error`, `message`

A metric that is not finite is null, so that every line is valid JSON; `non_finite` then has its value (`nan`, `inf`,
`-inf`). A resumed run drops the rows after the step that it resumes from, so no step appears twice.
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
    """Appends a row for every event except single steps. Each row is on disk before the run goes on.

    Args:
        run_dir: The run's folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._path = run_dir / FILE_NAME
        self._epoch = 0
        self._step = 0

    def run_started(self, info: RunInfo) -> None:
        """Drop damaged lines and the rows of steps that a resumed run will repeat, then append the start."""
        # Not `_move_to`: no epoch has begun, so a run that starts anew is in epoch 0.
        self._epoch = info.start_epoch
        self._step = info.global_step
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            kept: list[str] = []
            for line in lines:
                row = _parse(line)
                # A line without a line break is damaged even when it is JSON: the next row would be appended to it.
                if line.endswith("\n") and row and row.get("step", 0) <= self._step:
                    kept.append(line)
            if kept != lines:
                write_text(self._path, "".join(kept))
        self._append(
            "run_started",
            {
                "run": info.name,
                "epochs": info.epochs,
                "steps_per_epoch": info.steps_per_epoch,
                "resumed": info.global_step > 0,
                "facts": info.facts,
            },
        )

    def step_finished(self, info: StepInfo) -> None:
        """Keep the position of the run, for events that come without one."""
        self._move_to(info.epoch, info.global_step)

    def metrics_logged(self, info: StepInfo, metrics: dict[str, float]) -> None:
        """Append training metrics."""
        self._move_to(info.epoch, info.global_step)
        self._append("train", metrics)

    def epoch_finished(self, summary: EpochSummary) -> None:
        """Append the epoch's means."""
        self._move_to(summary.epoch, summary.global_step)
        self._append("epoch", summary.metrics)

    def validation_finished(self, summary: ValidationSummary) -> None:
        """Append validation metrics."""
        self._move_to(summary.epoch, summary.global_step)
        self._append("validation", summary.metrics)

    def checkpoint_saved(self, path: Path, best: bool) -> None:
        """Append the checkpoint."""
        shown = path
        # Relative paths stay true when somebody moves the run's folder.
        if path.is_relative_to(self._run_dir):
            shown = path.relative_to(self._run_dir)
        self._append("checkpoint", {"path": str(shown), "best": best})

    def run_finished(self, summary: dict[str, float]) -> None:
        """Append the end of the run."""
        self._append("run_finished", summary)

    def run_failed(self, error: BaseException) -> None:
        """Append the error that ended the run."""
        self._append("run_failed", {"error": type(error).__name__, "message": str(error)})

    def _move_to(self, epoch: int, step: int) -> None:
        # Events count epochs from 0; people, checkpoint names and the journal count them from 1.
        self._epoch = epoch + 1
        self._step = step

    def _append(self, event: str, details: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = {"event": event, "time": now, "epoch": self._epoch, "step": self._step}
        # JSON cannot hold numbers that are not finite: they become null, and their texts are under `non_finite`.
        valid = dict(details)
        non_finite: dict[str, str] = {}
        for key, value in details.items():
            if isinstance(value, float) and not math.isfinite(value):
                valid[key] = None
                non_finite[key] = str(value)
        if non_finite:
            valid["non_finite"] = non_finite
        # The row comes first because readers look for its keys there, and again last so that no metric overrides them.
        line = json.dumps(row | valid | row, allow_nan=False)
        # Opened for each row: closing flushes it, so that the rows of a killed run are there.
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
    file = path
    if path.is_dir():
        file = path / FILE_NAME
    try:
        # Damaged bytes become a line that is no JSON, which the error below names.
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError as error:
        raise DataError(
            f"{file}: the journal cannot be read ({error.strerror}); is the journal observer on?"
        ) from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        row = _parse(line)
        if row is not None:
            rows.append(row)
            continue
        # Only the last line can be half-written, and it then lacks its line break.
        is_half_written = number == len(lines) and not line.endswith("\n")
        if not is_half_written:
            raise DataError(
                f"{file}:{number}: not a JSON object: {line.strip()[:60]!r}; delete the line to read the rest"
            )
    return rows


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if isinstance(row, dict):
        return row
    return None
