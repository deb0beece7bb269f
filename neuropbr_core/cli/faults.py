"""Turns what goes wrong into one message and an exit code."""

import errno
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from neuropbr_core import __version__
from neuropbr_core.shown import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from neuropbr_core.cli.answers import Question
    from neuropbr_core.registry import Registry

FAILURE = 1
SIGNALLED = 128
INTERRUPTED = SIGNALLED + 2

_ADVICE = {
    errno.ENOSPC: "free space on that disk, or name a place on another one",
    errno.EDQUOT: "free space within your quota, or name a place elsewhere",
    errno.EFBIG: "this file system or its limits allow no larger file; name a place elsewhere",
    errno.EIO: "the disk or the network drive has a fault; name a place elsewhere",
    errno.EROFS: "that disk is read-only; name a place on another one",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EEXIST: "something is there already; remove it, or name another place",
    errno.ENOTDIR: "a part of the path is a file and no folder; name another place",
    errno.EISDIR: "it is a folder, and a file is needed; name a file",
    errno.ENOTEMPTY: "the folder is not empty; remove its content, or name another place",
    errno.ENAMETOOLONG: "the path is too long for this system; choose shorter names",
    errno.ENOENT: "it is not there; look at the spelling, and at the folder that you are in",
    errno.ELOOP: "its links lead in a circle; remove one of them",
    errno.EINVAL: "this system cannot use it; name an ordinary file or folder",
    errno.ENXIO: "it is a device or a pipe without a partner; name an ordinary file",
    errno.ESPIPE: "it is a pipe, and a file is needed",
    errno.EXDEV: "the two places are on different disks; name a place on the same one",
    errno.EBUSY: "another program uses it; end that program, or name another place",
    errno.ETXTBSY: "another program runs it; end that program, or name another place",
    errno.EMFILE: "too many files are open; raise the limit with `ulimit -n 4096`, or use fewer workers",
    errno.ENFILE: "too many files are open on this machine; end other programs",
    errno.EAGAIN: "the machine allows no more threads or processes; end other programs, or use fewer workers",
    errno.ENOMEM: "memory ran out; end other programs, or use fewer workers",
    errno.ESTALE: "the network drive lost the file; mount it again",
    errno.ETIMEDOUT: "the network drive does not answer",
    errno.ENOTSUP: "this file system cannot do that; name a place elsewhere",
}
"""What to do about an ordinary error of the operating system, by its number."""

_NO_THREADS = "can't start new thread"
"""What Python says, as a RuntimeError, where the system allows no more threads."""


def describe_system_error(error: OSError) -> str:
    """An error of the operating system on one line: the path, what is wrong, and what to do.

    Args:
        error: The error, whose number is in `_ADVICE` or not.
    """
    places = [shortened(os.fsdecode(name), 400) for name in (error.filename, error.filename2) if name is not None]
    reason = shortened(error.strerror or str(error) or type(error).__name__)
    reason = reason[:1].lower() + reason[1:]
    advice = _ADVICE.get(error.errno or 0, "")
    parts = [f"{' and '.join(places)}: {reason}" if places else reason]
    if advice:
        parts.append(advice)
    # A component that asked for it is named in a note.
    parts += getattr(error, "__notes__", [])
    return "; ".join(parts)


# No dataclass: with that module, `--help` would take a tenth longer.
class Session:
    """One call of the program: what its global options set, and what it was asked.

    Attributes:
        debug: Whether an error shows its traceback.
        registry: The registry that the global options ask for; None for the usual one.
        question: The words of the call; None for commands that keep no answers, and where another program calls them.
    """

    def __init__(self, *, debug: bool = False, registry: "Registry | None" = None) -> None:
        self.debug = debug
        self.registry = registry
        self.question: Question | None = None

    def keep(self, answer: str, watched: "Iterable[Path | str]") -> None:
        """Keep the answer to the question, for the next call with the same words; see `Question.keep`."""
        # Plugin files of the command line may be anything, and are watched by nobody.
        if self.question is not None and self.registry is None:
            self.question.keep(answer, watched)


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
        _drop_output()  # the reader has closed standard output, as `head` does
        return FAILURE
    except SystemExit as error:
        innermost = error.__traceback__
        while innermost is not None and innermost.tb_next is not None:
            innermost = innermost.tb_next
        # click itself ends so where the reader has closed standard output; all else is a library's or a plugin's doing.
        if innermost is None or innermost.tb_frame.f_globals.get("__name__") != "click.core":
            _report(session, error)
        return FAILURE
    except BaseException as error:  # also what is no Exception, by which a plugin would end the program in silence
        # Imported when something went wrong: its classes would take a twentieth of the time of `--help`.
        from neuropbr_core.errors import RunInterrupted

        _report(session, error)
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:
            _drop_output()  # what a full disk does not take is lost
        if isinstance(error, RunInterrupted):
            return SIGNALLED + error.signal  # what a shell reports of a program that a signal ended
        return FAILURE
    if isinstance(code, int):
        return code
    return 0


def _drop_output() -> None:
    """Let standard output go nowhere: the interpreter's last flush must not fail once more."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - devnull is no path of ours
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def contain_threads(session: Session) -> None:
    """Say in one line what a thread or a destructor of a plugin raised, where Python would print its traceback.

    Args:
        session: Read when something is raised; with `debug`, Python prints what it always does.
    """
    # Nobody waits for such a thread: the command goes on, and its outcome decides on the exit code.
    in_thread = threading.excepthook
    unraisable = sys.unraisablehook

    def note_thread(args: threading.ExceptHookArgs) -> None:
        if session.debug or args.exc_value is None:
            in_thread(args)
            return
        _warn(session, args.exc_value, "a thread in the background ended")

    def note_unraisable(args: "sys.UnraisableHookArgs") -> None:
        if session.debug or args.exc_value is None:
            unraisable(args)
            return
        _warn(session, args.exc_value, "the end of an object failed")

    threading.excepthook = note_thread
    sys.unraisablehook = note_unraisable


def _warn(session: Session, error: BaseException, event: str) -> None:
    reason = shortened(f"{type(error).__name__}: {error}")
    blamed = _blamed(session, error)
    if blamed is not error:
        reason = str(blamed)
    click.echo(printable(f"warning: {event}: {reason}"), err=True)


def _blamed(session: Session, error: BaseException) -> BaseException:
    """The error that names a component of others, where its code was at work; else the same error."""
    # Without the registry, no component has been loaded.
    if "neuropbr_core.registry" not in sys.modules or (isinstance(error, OSError) and error.errno is not None):
        return error
    from neuropbr_core.registry import default_registry
    from neuropbr_core.registry.catalog import OWN_DISTRIBUTION
    from neuropbr_core.registry.guarding import broken, culprit
    from neuropbr_core.shown import describe

    registry = session.registry or default_registry()
    others = [entry for entry in registry.entries() if entry.distribution != OWN_DISTRIBUTION]
    entry = culprit(error, others)
    if entry is None:
        return error
    blamed = broken(entry, f"it raised {describe(error)}")
    blamed.__cause__ = error
    return blamed.with_traceback(error.__traceback__)


def _report(session: Session, error: BaseException) -> None:
    """Print what is wrong; a fault of the program itself comes with its traceback."""
    from neuropbr_core.errors import NeuroPBRError, RunInterrupted

    if not isinstance(error, NeuroPBRError | MemoryError):
        error = _blamed(session, error)
    starved = isinstance(error, MemoryError)
    # Only torch knows the errors of its devices, and where it is not imported it cannot have raised one.
    if "torch" in sys.modules and not isinstance(error, NeuroPBRError):
        from neuropbr_core.training.loop.memory import is_out_of_memory

        starved = is_out_of_memory(error)
    if isinstance(error, RuntimeError) and _NO_THREADS in str(error):
        error = OSError(errno.EAGAIN, _NO_THREADS)
    # Every error of the operating system is about the user's machine, and nothing that this program could have avoided.
    outside = isinstance(error, OSError) and error.errno is not None
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
        advice = "end other programs that use the device, or compute with --device cpu"
        click.echo(printable(f"error: out of memory ({summary}); {advice}"), err=True)
        return
    if expected:
        message = f"error: {error}"
        if isinstance(error, OSError):
            message = f"error: {describe_system_error(error)}"
        elif isinstance(error, NeuroPBRError):
            message = "\n".join([message, *getattr(error, "__notes__", [])])
        if isinstance(error, RunInterrupted):
            message = str(error)  # the user asked for it
        click.echo(printable(message), err=True)
        return
    fault = printable(f"error: {type(error).__name__}: {error}")
    click.echo(
        f"{fault}\n"
        f"This is a fault in neuropbr {__version__} or in a plugin. Please report it to the authors together with the "
        f"traceback above.",
        err=True,
    )
