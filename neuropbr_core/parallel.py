"""Independent work on files, spread over the cores that this process may use."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from neuropbr_core.errors import DataError
from neuropbr_core.reporting import track

J = TypeVar("J")
R = TypeVar("R")

_FEWEST = 8  # jobs for each process, below which starting it takes longer than the work


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
        jobs: Its arguments; they and the results must pickle.
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
    # A forked process would inherit the locks of this one's threads, OpenCV's and PyTorch's among them, and might wait
    # for them forever.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    try:
        return list(track(pool.map(function, jobs), len(jobs), what))
    except BrokenProcessPool as error:
        raise DataError(f"{what}: a process died, most likely for want of memory; try --workers 1") from error
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, jobs that have not started are dropped


def _leave_interrupts_to_the_parent() -> None:
    # A terminal sends Ctrl-C to every process. Only the parent's traceback would help the user, and it ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
