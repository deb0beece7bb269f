"""Runs of a sweep in processes beside each other.

Each run has a process and a log file of its own. A process shares captures, packed images and teachers with the others;
so the next one starts only when these are there for the one before, and no two of them write the same files.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from neuropbr_core.errors import NeuroPBRError, RunInterrupted
from neuropbr_core.parallel import cores, grant_cores, start_without_signals
from neuropbr_core.registry.catalog import Registry, default_registry, set_default_registry
from neuropbr_core.reporting import ProgressBar, reporter

if TYPE_CHECKING:
    from neuropbr_core.runs.sweep import SweptRun

LOGS = "sweep-logs"
"""Folder of the logs, beside the runs: a run's own folder must be empty when the run starts."""

_STOPS = (signal.SIGINT, signal.SIGTERM)
_PREPARED = "prepared"
_DONE = "done"
_LOOK = 0.5  # seconds between two looks at the processes; a signal is answered at once


@dataclass(eq=False)
class _Job:
    """A run in its process.

    Attributes:
        run: The run.
        log: What the process prints.
        process: The process.
        messages: Receives `_PREPARED`, `_DONE` or an error's text from it.
        is_preparing: Whether it may write what other runs share.
        failure: What went wrong; empty when nothing did, None while that is not known.
    """

    run: "SweptRun"
    log: Path
    process: SpawnProcess
    messages: Connection
    is_preparing: bool = True
    failure: str | None = None

    def read(self) -> None:
        """Take note of what the process has said."""
        # A process that was killed closes its end without a word.
        with suppress(EOFError, OSError):
            while self.messages.poll():
                message = self.messages.recv()
                self.is_preparing = False
                if message == _DONE:
                    self.failure = ""
                elif message != _PREPARED:
                    self.failure = message

    def end(self) -> str:
        """Wait for the end of the process; return what went wrong, or an empty text."""
        self.process.join()
        self.read()
        self.messages.close()
        if self.failure is not None:
            return self.failure
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its process ended with exit code {code} without a word; see {self.log}"
        try:
            reason = f"its process was killed by {signal.Signals(-code).name}"
        except ValueError:  # a real-time signal, which has no name
            reason = f"its process ended with status {code}"
        if -code == signal.SIGKILL:
            reason += ", as systems do when memory runs out; try fewer --jobs"
        return f"{reason}; see {self.log}"


def carry_out_jobs(runs: "Sequence[SweptRun]", jobs: int) -> list[str]:
    """Execute the runs of a sweep in processes beside each other; a run that fails does not keep others from theirs.

    Args:
        runs: The runs.
        jobs: Most processes at a time. Each gets its share of this process's cores, and as many threads unless
            `OMP_NUM_THREADS` names a number.

    Returns:
        What went wrong, one text for each run that failed, in the order of the runs.

    Raises:
        RunInterrupted: A signal stopped the sweep. It was passed on to the processes, which have saved and ended.
    """
    share = max(1, cores() // jobs)
    waiting = list(runs)
    running: list[_Job] = []
    failures: dict[str, str] = {}
    total = len(runs)
    ended = 0
    bar = reporter().bar(total, "runs")
    with _passing_on(running) as signals:
        try:
            while waiting or running:
                if signals.received:
                    waiting = []
                for job in running:
                    job.read()
                # Looked at now and not before: another sweep may have done a run that waited here.
                if waiting and len(running) < jobs and not any(job.is_preparing for job in running):
                    run = waiting.pop(0)
                    if _is_done(run):
                        ended += 1
                        bar.advance()
                        reporter().line(f"Nothing is left to do: {run.folder.path}")
                    else:
                        # A signal in between would not reach a process that is not in the list yet.
                        with signals.held_back():
                            job = _start(run, share)
                            running.append(job)
                        reporter().line(f"Run {total - len(waiting)} of {total}: {run.folder.path}, log {job.log}")
                    _note(bar, running)
                    continue
                wait([job.process.sentinel for job in running], timeout=_LOOK)
                for job in [job for job in running if not job.process.is_alive()]:
                    running.remove(job)
                    ended += 1
                    name = job.run.folder.name
                    if failure := job.end():
                        failures[name] = failure
                        reporter().line(f"Run {name} failed: {failure}")
                    else:
                        reporter().line(f"Run {name} is done ({ended} of {total})")
                    bar.advance()
                    _note(bar, running)
        finally:
            bar.close()
            # After an error of this process's own; the runs save and can be continued.
            for job in running:
                job.process.terminate()
            for job in running:
                job.process.join()
    if signals.received:
        number = signals.received[0]
        cause = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        raise RunInterrupted(
            f"Stopped by {cause}. The runs that were under way have ended; the same command continues the sweep", number
        )
    return [f"{run.folder.name}: {failures[run.folder.name]}" for run in runs if run.folder.name in failures]


class _Signals:
    """Signals that came to the sweep, each of which goes to every process once.

    Args:
        running: The processes, of which there may be more or fewer later.

    Attributes:
        received: Numbers of all signals so far.
    """

    def __init__(self, running: Sequence[_Job]) -> None:
        self._running = running
        self.received: list[int] = []
        self._held: list[int] = []
        self._is_holding = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take a signal in: the handler."""
        del frame
        self.received.append(number)
        if len(self.received) == 1:
            text = "\nThe runs stop after their steps, then save. Press Ctrl-C again to stop at once, without saving.\n"
            os.write(sys.stderr.fileno(), text.encode())  # a signal may interrupt a print, so this is none
        if self._is_holding:
            self._held.append(number)
        else:
            self._pass_on(number)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Context at whose end the signals that came within it go to the processes."""
        # No mask does this: a process's other threads, such as those of PyTorch, receive what this one blocks.
        self._is_holding = True
        try:
            yield
        finally:
            self._is_holding = False
            while self._held:
                self._pass_on(self._held.pop(0))

    def _pass_on(self, number: int) -> None:
        for job in self._running:
            # The processes have sessions of their own, which a terminal's Ctrl-C does not reach.
            if job.process.pid is not None and job.process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(job.process.pid, number)


@contextmanager
def _passing_on(running: Sequence[_Job]) -> Iterator[_Signals]:
    """Context in which signals go to the processes.

    Outside the main thread, which alone receives signals, it does nothing.
    """
    signals = _Signals(running)
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for stop in _STOPS:
            if signal.getsignal(stop) not in (signal.SIG_IGN, None):
                before[stop] = signal.signal(stop, signals.note)
    try:
        yield signals
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)


def _note(bar: ProgressBar, running: Sequence[_Job]) -> None:
    bar.note(", ".join(job.run.folder.name for job in running))


def _is_done(run: "SweptRun") -> bool:
    """Whether a run needs no process; one that cannot be planned gets one, whose error is then the run's."""
    try:
        opened = run.opened_again()
        return opened.resume and opened.plan().is_done()
    except Exception:  # whatever it is, it must not keep the other runs from theirs
        return False


def _start(run: "SweptRun", share: int) -> _Job:
    log = run.folder.path.parent / LOGS / f"{run.folder.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # A forked process would inherit the locks of this one's threads, and might wait for them forever.
    context = multiprocessing.get_context("spawn")
    messages, writer = context.Pipe(duplex=False)
    arguments = (run.opened_again, default_registry(), str(log), share, writer)
    process = context.Process(target=_carry_out, args=arguments, name=run.folder.name)
    # Held back until the process is ready for them: while it imports, a signal would end it with a traceback.
    start_without_signals(process, _STOPS)
    writer.close()  # so that the end of the process closes the pipe
    return _Job(run, log, process, messages)


def _carry_out(
    open_run: "Callable[[], SweptRun]", registry: Registry, log: str, share: int, messages: Connection
) -> None:
    """Carry out one run, in a process of its own."""
    os.setsid()  # the sweep passes signals on, so that each comes once
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        threading.Thread(target=_end_with_the_sweep, daemon=True).start()
        # Sums of more threads round differently. Whoever asks for a number of threads gets it, and with it the same
        # numbers for any number of jobs.
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(share)
        grant_cores(share)
        set_default_registry(registry)
        open_run().carry_out(lambda: messages.send(_PREPARED))
    except KeyboardInterrupt:
        messages.send("stopped before it could save")
    except NeuroPBRError as error:
        reporter().line(f"error: {error}")
        messages.send(str(error))
    except Exception as error:
        traceback.print_exc()
        messages.send(f"{type(error).__name__}: {error}; see {log}")
    else:
        messages.send(_DONE)


def _end_with_the_sweep() -> None:
    """Stop this process when the sweep is gone: nobody would hear of its end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
