"""Independent work, spread over processes.

The processes are our own instead of those of `concurrent.futures`, for three reasons: a process that dies is named
together with what it worked on, Ctrl-C ends work that has begun, and a job may return its results one by one.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar, cast

from neuropbr_core.errors import DataError
from neuropbr_core.reporting import track

J = TypeVar("J")
R = TypeVar("R")

_FEWEST = 8  # jobs for each process, below which starting it takes longer than the work
_PATIENCE = 5.0  # seconds that a process has to clean up after it was told to end

_SIGNALLED = 128  # a status above it stands for a signal, as in shells

_RESULT, _DONE, _ERROR = range(3)
"""What a message of a worker holds: a result of its job, the end of its job, or the error that ended it."""


_granted: int | None = None


def grant_cores(count: int) -> None:
    """Let this process count on some of the machine's cores alone, because others work beside it.

    Args:
        count: Cores, 1 or more.
    """
    global _granted  # noqa: PLW0603 - a process has one share of the machine
    _granted = count


def cores() -> int:
    """Count the processor cores that this process may use."""
    if _granted is not None:
        return _granted
    # Containers and job schedulers often grant fewer cores than the machine has, and macOS cannot ask.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(function: Callable[[J], R], jobs: Sequence[J], workers: int, what: str) -> list[R]:
    """Call a function for each job, in several processes if that pays.

    Args:
        function: A function at the top level of a module, which other processes can import.
        jobs: Its arguments; they and the results must pickle. The text of a job names it in errors.
        workers: Most processes to start. With 1, and for few jobs, this process does the work. A script that asks for
            more must start under `if __name__ == "__main__":`, because each process imports the script.
        what: Text of the progress bar, such as `checking folders`.

    Returns:
        Results in the order of the jobs.

    Raises:
        DataError: A process died.
    """
    processes = min(workers, len(jobs) // _FEWEST)
    if processes < 2:
        return list(track(map(function, jobs), len(jobs), what))
    numbered = []
    for place, job in enumerate(jobs):
        numbered.append(_Numbered(place, job))
    stream = stream_jobs(partial(_call_numbered, function), numbered, processes, what, "try --workers 1")
    with closing(stream):
        results = dict(track(stream, len(jobs), what))
    return [results[place] for place in range(len(jobs))]


def stream_jobs(
    function: Callable[[J], Iterable[R]], jobs: Iterable[J], processes: int, what: str, advice: str
) -> Generator[R, None, None]:
    """Call a function for each job in several processes, and pass its results on as they come.

    To be closed (`contextlib.closing`): closing ends the processes, also those that work.

    Args:
        function: Returns the results of a job, for example as a generator. It is pickled once for each process, which
            keeps it, so that an object can hold what is dear to make.
        jobs: Its arguments; they and the results must pickle. The text of a job names it in errors.
        processes: Number of processes, at least 1.
        what: The work, for errors, such as `rendering captures`.
        advice: What the user may do when a process dies, such as `try --workers 1`.

    Yields:
        The results of all jobs, in no particular order.

    Raises:
        DataError: A process died; the message has its id, the signal that ended it, and its job.
        Exception: What the function raises.
    """
    # A forked process would inherit the locks of this one's threads, OpenCV's and PyTorch's among them, and might wait
    # for them forever.
    context = multiprocessing.get_context("spawn")
    waiting = deque(jobs)
    workers: dict[Connection, _Worker] = {}
    finished = False
    try:
        for _ in range(min(processes, len(waiting))):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, function), daemon=True)
            # A terminal sends Ctrl-C to every process. Only the parent's message would help the user, and it ends the
            # others.
            start_without_signals(process, [signal.SIGINT])
            # This process must not keep the worker's end open: only then does the pipe end when the worker dies.
            there.close()
            workers[here] = _Worker(process, here)
            workers[here].give(waiting)
        while busy := [pipe for pipe, worker in workers.items() if worker.is_busy]:
            for pipe in wait(busy):
                worker = workers[cast("Connection", pipe)]
                try:
                    kind, content = worker.pipe.recv()
                except (EOFError, OSError):
                    raise DataError(f"{what}: {worker.epitaph()}; {advice}") from None
                if kind == _RESULT:
                    yield content
                elif kind == _ERROR:
                    raise content
                else:
                    worker.give(waiting)
        finished = True
    finally:
        for worker in workers.values():
            worker.pipe.close()  # an idle worker ends by itself when its pipe does
            if not finished:
                worker.process.terminate()
        for worker in workers.values():
            worker.process.join(_PATIENCE)
            worker.process.kill()  # does nothing to a process that has ended
            worker.process.join()


def start_without_signals(process: BaseProcess, held: Iterable[signal.Signals]) -> None:
    """Start a process that signals do not reach until it unblocks them; this process gets them when it has started.

    Args:
        process: A process of the `spawn` method, not yet started.
        held: The signals.
    """
    # Starting the first process also starts `multiprocessing`'s tracker, which then unblocks SIGINT and SIGTERM: the
    # tracker has to run already, or that first process would hear them.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)  # a new process inherits the mask, and keeps it
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass
class _Worker:
    """A process, its pipe, and the job that it works on, if it is busy."""

    process: BaseProcess
    pipe: Connection
    is_busy: bool = False
    job: object = None  # None may be a job

    def give(self, waiting: deque[Any]) -> None:
        """Give it the next job."""
        self.is_busy = bool(waiting)
        if waiting:
            self.job = waiting.popleft()
            with suppress(OSError):  # it has died, which the next look at its pipe finds
                self.pipe.send(self.job)

    def epitaph(self) -> str:
        """How the process died."""
        self.process.join(_PATIENCE)
        code = self.process.exitcode or 0
        # Below 0 for a signal that ended it at once, above 128 for SIGTERM, after which it cleans up.
        number = -code
        if code > _SIGNALLED:
            number = code - _SIGNALLED
        end = f"ended with status {code}"
        # `Signals` has no real-time signals, and a status such as 255 stands for no signal.
        if number in set(signal.Signals):
            end = f"was ended by {signal.Signals(number).name}"
        if number == signal.SIGKILL:
            end += ", most likely because memory ran out,"
        return f"process {self.process.pid} {end} at {self.job}"


def _work(pipe: Connection, function: Callable[[Any], Iterable[Any]]) -> None:
    """Do the jobs that come through a pipe, until it is closed: what a worker process runs."""
    # An exception instead of sudden death, so that what is half written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_SIGNALLED + signal.SIGTERM))
    # The pipe ends when the parent has no more work, and when it was killed.
    with suppress(EOFError, ConnectionError):
        while True:
            job = pipe.recv()
            try:
                for result in function(job):
                    pipe.send((_RESULT, result))
            except ConnectionError:
                raise
            except Exception as error:  # whatever it is, the parent raises it
                pipe.send((_ERROR, _portable(error)))
                return
            pipe.send((_DONE, None))


def _portable(error: Exception) -> Exception:
    """An error that pickles, with its traceback as a note."""
    trace = traceback.format_exc()
    error.add_note(f"In another process:\n{trace}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own content
    except Exception:  # errors of libraries may refuse in any way
        return RuntimeError(f"{type(error).__name__}: {error}\n{trace}")
    return error


@dataclass(frozen=True)
class _Numbered(Generic[J]):
    """A job with its place in the order of results."""

    place: int
    job: J

    def __str__(self) -> str:
        """The job's own text."""
        return str(self.job)


def _call_numbered(function: Callable[[J], R], numbered: _Numbered[J]) -> list[tuple[int, R]]:
    """The result of a numbered job, with its number."""
    return [(numbered.place, function(numbered.job))]
