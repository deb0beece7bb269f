"""Functions for the tests of `parallel`, in a module that other processes can import."""

import os
import signal
import sys
import time
from collections.abc import Iterator

from neuropbr_core.errors import DataError


class StubbornError(Exception):
    """Does not pickle, because it takes two arguments."""

    def __init__(self, here: int, there: int) -> None:
        super().__init__(f"{here} of {there}")


def square(number: int) -> int:
    return number**2


def multiples(number: int) -> Iterator[int]:
    for factor in (1, 2, 3):
        yield factor * number


def refuse(number: int) -> list[int]:
    if number % 2:
        raise DataError(f"{number} is odd")
    return [number]


def resist(number: int) -> list[int]:
    raise StubbornError(1, number - 1)


def kill_itself(job: object) -> list[object]:
    os.kill(os.getpid(), signal.SIGKILL)
    return [job]


def end_itself(job: object) -> list[object]:
    os.kill(os.getpid(), signal.SIGTERM)
    return [job]


def echo(job: object) -> list[object]:
    return [job]


def leave(status: int, job: object) -> list[object]:
    os._exit(status)
    return [job]


def sleep(seconds: float) -> Iterator[int]:
    """Tell the process's id, then sleep in short pieces, each of which sends a result."""
    yield os.getpid()
    for _ in range(int(seconds * 10)):
        time.sleep(0.1)
        yield 0


def hears_interrupts(job: object) -> list[bool]:
    time.sleep(0.2)  # so that the other process takes the other job
    return [signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])]


def main() -> None:
    from neuropbr_core.parallel import stream_jobs

    for result in stream_jobs(sleep, [60, 60], 2, "sleeping", "wake up"):
        if result:
            print(result, flush=True)


if __name__ == "__main__":
    sys.exit(main())
