"""Event files for TensorBoard.

The step of every value is the number of generator steps so far. Tags are the journal's names below the name of their
event:

- `train/…`, `epoch/…` and `validation/…`: scalars; `best/…`: the best checkpoint's metrics, at the run's end
- `grids/NAME`: views, and prediction, truth and error of every map, in one picture
- `pictures/NAME/…`: the parts of a grid, one by one
- `recipe`, `facts`: texts
"""

import io
import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary as summaries

from neuropbr_core.contracts import EpochSummary, Observer, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.recipe.yaml_tree import dump

_VERSION = "brain.Event:2"
"""Version of the format, which the first record of every event file names."""


class EventFile:
    """Appends events to a new file.

    `torch.utils.tensorboard.SummaryWriter` writes in a thread of its own, which answers a full disk with a traceback
    that nobody can catch. This class raises the error where the caller can catch it.

    Args:
        folder: Where the file is created; the folder is created when it is missing.
        purge_step: TensorBoard hides events of earlier files in the folder from this step on.

    Raises:
        OSError: The file could not be written; `flush` may raise it too.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Time, host and process tell the files of several runs apart; the clock tells apart two of one second.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self._path = folder / name
        self._waiting = io.BytesIO()
        self._write(step=purge_step or 0, file_version=_VERSION)
        # TensorBoard drops earlier events at and after the step of a `START`.
        if purge_step is not None:
            self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def add(self, summary: Any, step: int) -> None:
        """Add a summary that a function of `torch.utils.tensorboard.summary` made; `flush` writes it."""
        self._write(step=step, summary=summary)

    def flush(self) -> None:
        """Append all added events to the file."""
        # Opened and closed for each flush: the events are with the system before the run goes on.
        with self._path.open("ab") as stream:
            stream.write(self._waiting.getvalue())
        self._waiting = io.BytesIO()

    def _write(self, **event: Any) -> None:
        RecordWriter(self._waiting).write(Event(wall_time=time.time(), **event).SerializeToString())


FOLDER = "tensorboard"

_make: Any = summaries  # none of its functions has types


class TensorBoardObserver(Observer):
    """Writes a run's scalars and pictures to `RUN/tensorboard`.

    A resumed run hides the events after the step that it resumes from, which earlier event files hold, so TensorBoard
    shows every step once. Events are on disk before the run goes on.

    Args:
        run_dir: The run's folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / FOLDER
        self._open: EventFile | None = None
        self._step = 0

    def run_started(self, info: RunInfo) -> None:
        """Open an event file, and write recipe and facts."""
        self._close()
        self._step = info.global_step
        purge_step = None
        if info.global_step:
            # The events of the last step itself belong to the checkpoint that the run resumes from.
            purge_step = info.global_step + 1
        self._open = EventFile(self._folder, purge_step)
        # Markdown shows indented text as it is.
        recipe = "".join(f"    {line}\n" for line in dump(info.recipe).splitlines())
        self._open.add(_make.text("recipe", recipe), info.global_step)
        rows = [f"| {name} | {value} |" for name, value in info.facts.items()]
        facts = "\n".join(["| fact | value |", "| --- | --- |", *rows])
        self._open.add(_make.text("facts", facts), info.global_step)
        self._open.flush()

    def metrics_logged(self, info: StepInfo, metrics: dict[str, float]) -> None:
        """Write training metrics."""
        self._write("train", metrics, info.global_step)

    def epoch_finished(self, summary: EpochSummary) -> None:
        """Write the epoch's means."""
        self._write("epoch", summary.metrics, summary.global_step)

    def validation_finished(self, summary: ValidationSummary) -> None:
        """Write validation metrics and pictures."""
        for folder, pictures in (("grids", summary.images), ("pictures", summary.details)):
            for name, picture in pictures.items():
                self._writer().add(_make.image(f"{folder}/{name}", picture, dataformats="HWC"), summary.global_step)
        self._write("validation", summary.metrics, summary.global_step)

    def run_finished(self, summary: dict[str, float]) -> None:
        """Write the best checkpoint's metrics, and close the file."""
        self._write("best", summary, self._step)
        self._close()

    def run_failed(self, error: BaseException) -> None:  # noqa: ARG002 (the journal says why)
        """Close the file with everything that was written to it."""
        self._close()

    def _write(self, group: str, metrics: dict[str, float], step: int) -> None:
        # `run_finished` comes without a step and takes the last one.
        self._step = step
        for name, value in metrics.items():
            self._writer().add(_make.scalar(f"{group}/{name}", value), step)
        self._writer().flush()

    def _writer(self) -> EventFile:
        # A run that fails early calls no `run_started`, and its other events need a file all the same.
        if self._open is None:
            self._open = EventFile(self._folder)
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open.flush()
            self._open = None
