"""An event file of TensorBoard, written in the caller's thread."""

import io
import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter

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
