"""Several processes of one run: what the first does alone, and how the others hear of a failure."""

import subprocess
from collections.abc import Callable
from typing import Any, TypeVar

from lightning_fabric import Fabric

from neuropbr_core.errors import RunError, RunStopped

T = TypeVar("T")

_PATIENCE = 10.0  # seconds in which a process that failed has ended, too


def first(fabric: Fabric, work: Callable[[], T]) -> T:
    """Do something in the first process while the others wait.

    Args:
        fabric: Knows the processes.
        work: What to do; its result must pickle when there are several.

    Returns:
        The result, in every process.

    Raises:
        Exception: What `work` raised, in the first process.
        RunStopped: The same, in the others.
    """
    if fabric.world_size == 1:
        return work()
    # What failed in the first process is broadcast like a result: the others would wait for it forever.
    result: Any = None
    error: Exception | None = None
    if fabric.is_global_zero:
        try:
            result = work()
        except Exception as caught:  # the others must hear of any
            error = caught
    message = None
    if error is not None:
        message = str(error)  # not the error itself, which need not pickle
    result, failure = fabric.broadcast((result, message))
    if error is not None:
        raise error
    if failure is not None:
        raise RunStopped(failure)
    done: T = result
    return done


def first_then_others(fabric: Fabric, work: Callable[[], T]) -> T:
    """Do something in the first process, and then, when it is sure to find its files, in the others."""
    results: list[T] = []  # stays here: what `work` makes need not pickle, as the result of `first` must
    first(fabric, lambda: results.append(work()))
    if results:
        return results[0]
    return work()


def blame(fabric: Fabric, error: BaseException) -> BaseException:
    """The error to report: another process's failure, when that is why talking to it failed here."""
    # A lost connection is a bare RuntimeError; an error of our own classes, or of CUDA's, is this process's.
    if fabric.world_size == 1 or not fabric.is_global_zero or type(error) is not RuntimeError:
        return error
    for rank, child in enumerate(_children(fabric), 1):
        try:
            # It may still be writing its message, or waiting for this process.
            code = child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            continue
        if code:
            message = f"process {rank + 1} of {fabric.world_size} failed with exit code {code}; its message is above"
            return RunError(f"{message}. Checkpoints saved before this point are intact")
    return error


def end_others(fabric: Fabric) -> None:
    """End the processes that this one started; they could only wait for it."""
    for child in _children(fabric):
        child.kill()


def _children(fabric: Fabric) -> "list[subprocess.Popen[bytes]]":
    """The processes that Fabric's launcher started; none under torchrun, which looks after them itself."""
    return list(getattr(fabric.strategy.launcher, "procs", []))
