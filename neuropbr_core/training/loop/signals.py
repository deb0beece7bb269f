"""Ctrl-C and SIGTERM: the run finishes its step, saves, and ends; a second one ends it at once."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from lightning_fabric import Fabric

_HANDLED = (signal.SIGINT, signal.SIGTERM)
_NOTE = "\nStopping after this step, then saving. Press Ctrl-C again to stop at once, without saving.\n"


class StopSignals:
    """Context in which signals are noted instead of obeyed; outside the main thread it does nothing.

    After the first signal the handlers of before are back in place, so that the second one does what it always does.

    Args:
        fabric: Knows the other processes, of which perhaps only one was told.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._received = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Take over the signals, except those that are ignored (as by `nohup`)."""
        if threading.current_thread() is threading.main_thread():
            for number in _HANDLED:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the handlers of before back."""
        self._release()

    def received(self) -> int:
        """The signal that any process was told, or 0. Every process must ask at the same time."""
        if self._fabric.world_size == 1:
            return self._received
        told = torch.tensor(self._received, device=self._fabric.device)
        return int(torch.as_tensor(self._fabric.all_reduce(told, reduce_op="max")))

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._received = number
        self._release()  # so that the next signal ends the process, in case this step never ends
        if self._fabric.is_global_zero:
            os.write(sys.stderr.fileno(), _NOTE.encode())  # a signal may interrupt a print, so this is none

    def _release(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
