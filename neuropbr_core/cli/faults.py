"""Turns what goes wrong into one message and an exit code."""

import errno
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import click

from neuropbr_core import __version__
from neuropbr_core.errors import NeuroPBRError, RunInterrupted

FAILURE = 1
SIGNALLED = 128
INTERRUPTED = SIGNALLED + 2

_MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)

_PLACE_FAULTS = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
"""A file is where the user's path needs a folder, or the reverse, or the path is too long."""


@dataclass
class Session:
    """What the global options set for one call of the program.

    Attributes:
        debug: Whether an error shows its traceback.
    """

    debug: bool = False


def exit_code(session: Session, command: Callable[[], object]) -> int:
    """Run a command and return the exit code of the program.

    Args:
        session: Read when something goes wrong; the command's own option parsing fills it.
        command: The command, run by click without its standalone mode; an int that it returns is the exit code.

    Returns:
        0 when all went well, 1 after an error, 2 after wrong usage, 130 after Ctrl-C, 143 when a run saved and ended
        because of SIGTERM.
    """
    try:
        code = command()
        if sys.stdout is not None:  # it is None in a process that was started with a closed standard output
            sys.stdout.flush()  # here, so that a full disk or a closed pipe is reported like any other fault
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        # click turns both Ctrl-C and the end of its input into Abort.
        if isinstance(error.__cause__, KeyboardInterrupt):
            return INTERRUPTED
        return FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed standard output, as `head` does. The interpreter's last flush must not fail too.
        with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - devnull is no path of ours
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return FAILURE
    except Exception as error:
        _report(session, error)
        if isinstance(error, RunInterrupted):
            return SIGNALLED + error.signal  # what a shell reports of a program that a signal ended
        return FAILURE
    if isinstance(code, int):
        return code
    return 0


def _report(session: Session, error: Exception) -> None:
    """Print what is wrong; a fault of the program itself comes with its traceback."""
    starved = isinstance(error, MemoryError)
    # Only torch knows the errors of its devices, and where it is not imported it cannot have raised one.
    if "torch" in sys.modules and not isinstance(error, NeuroPBRError):
        from neuropbr_core.training.loop.memory import is_out_of_memory

        starved = is_out_of_memory(error)
    # A full disk or a missing permission is nothing that this program could have avoided.
    outside = isinstance(error, OSError) and error.errno in (*_MACHINE_FAULTS, *_PLACE_FAULTS)
    expected = starved or outside or isinstance(error, NeuroPBRError)
    if session.debug or not expected:
        import traceback

        traceback.print_exception(error)
    if starved:
        # Only the first line: torch appends pages of allocator statistics. A MemoryError may have no text at all.
        lines = str(error).splitlines()
        summary = type(error).__name__
        if lines:
            summary = lines[0]
        click.echo(
            f"error: out of memory ({summary}); end other programs that use the device, or compute with --device cpu",
            err=True,
        )
        return
    if expected:
        message = f"error: {error}"
        if isinstance(error, RunInterrupted):
            message = str(error)  # the user asked for it
        click.echo(message, err=True)
        return
    click.echo(
        f"error: {type(error).__name__}: {error}\n"
        f"This is a fault in neuropbr {__version__} or in a plugin. Please report it to the authors together with the "
        f"traceback above.",
        err=True,
    )
