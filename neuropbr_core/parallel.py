"""Independent work on files, spread over processes."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from neuropbr_core.errors import DataError
from neuropbr_core.reporting import track

J = TypeVar("J")
R = TypeVar("R")

_FEWEST = 8  # jobs for which starting a process pays


def run_jobs(function: Callable[[J], R], jobs: Sequence[J], workers: int, what: str) -> list[R]:
    """Call a function for each job.

    Args:
        function: A function of a module, which other processes can import.
        jobs: Its arguments; they and the results must pickle.
        workers: Processes at most; with 1, and for few jobs, this process does the work. A script that asks for more
            must start under `if __name__ == "__main__":`, because each process imports it.
        what: What happens to each job.

    Returns:
        Results in the order of the jobs.

    Raises:
        DataError: A process died.
    """
    processes = min(workers, len(jobs) // _FEWEST)
    if processes < 2:
        return list(track(map(function, jobs), len(jobs), what))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    try:
        return list(track(pool.map(function, jobs), len(jobs), what))
    except BrokenProcessPool as error:
        raise DataError(f"{what}: a process died, most likely for want of memory; try --workers 1") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
