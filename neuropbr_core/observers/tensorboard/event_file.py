"""One event file of TensorBoard, written in the thread that asks for it."""

import io
import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter

_VERSION = "brain.Event:2"


class EventFile:
    """Appends events to a file of its own.

    `torch.utils.tensorboard.SummaryWriter` writes in a thread, which answers a full disk with a traceback that nobody
    can catch. Here an error is the caller's.

    Args:
        folder: Made when missing.
        purge_step: Hide what earlier files of the folder have from this step on.

    Raises:
        OSError: The file could not be written; `flush` may raise it too.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self._path = folder / name
        self._waiting = io.BytesIO()
        self._write(step=purge_step or 0, file_version=_VERSION)
        if purge_step is not None:
            self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def add(self, summary: Any, step: int) -> None:
        """Add a summary, as the functions of `torch.utils.tensorboard.summary` make them; `flush` writes it."""
        self._write(step=step, summary=summary)

    def flush(self) -> None:
        """Append what was added to the file, which is open no longer than that."""
        with self._path.open("ab") as stream:
            stream.write(self._waiting.getvalue())
        self._waiting = io.BytesIO()

    def _write(self, **event: Any) -> None:
        RecordWriter(self._waiting).write(Event(wall_time=time.time(), **event).SerializeToString())
