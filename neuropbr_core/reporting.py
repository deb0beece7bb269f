"""Reports of long work to people: lines, warnings and progress bars, all through one `Reporter`.

The current reporter is a context variable, so that no function has to pass it on. It starts as a `ConsoleReporter`.
`reporting_to` replaces it for a block of code, by which programs silence or capture the library's reports. All reports
go to standard error. Standard output belongs to the results of commands.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from neuropbr_core.shown import printable

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

_USUAL_HEIGHT = 20
_USUAL_WIDTH = 100
"""Columns of a bar on a terminal that does not know its width: enough for a bar of an epoch with both losses."""


class ProgressBar(Protocol):
    """An open progress bar."""

    def advance(self) -> None:
        """Count one more item."""

    def note(self, text: str) -> None:
        """Show a short text beside the bar, in place of the previous text."""

    def close(self) -> None:
        """Close the bar; a closed bar may be closed again."""


class Reporter(Protocol):
    """Receives the reports of long work."""

    def line(self, text: str) -> None:
        """Show a line."""

    def warning(self, text: str) -> None:
        """Show something that the user should know before trusting a result."""

    def bar(
        self, total: int, what: str, *, done: int = 0, keep: bool = False, shown: bool | None = None
    ) -> ProgressBar:
        """Open a progress bar.

        Args:
            total: Number of items.
            what: Text beside the bar, such as `packing images`.
            done: Number of items that were done before.
            keep: Whether the bar stays on the screen after it is closed.
            shown: Whether to show the bar; default: only on a terminal.
        """


class SilentReporter:
    """Shows nothing."""

    def line(self, text: str) -> None:
        """Show nothing."""

    def warning(self, text: str) -> None:
        """Show nothing."""

    def bar(
        self,
        total: int,  # noqa: ARG002 - the signature is the protocol's
        what: str,  # noqa: ARG002
        *,
        done: int = 0,  # noqa: ARG002
        keep: bool = False,  # noqa: ARG002
        shown: bool | None = None,  # noqa: ARG002
    ) -> ProgressBar:
        """Return a bar that shows nothing."""
        return _NoBar()


class RecordingReporter(SilentReporter):
    """Keeps lines and warnings in a list, for tests and for programs that show them in their own way.

    Attributes:
        lines: Reported lines in order; warnings begin with `warning: `.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)

    def warning(self, text: str) -> None:
        """Keep a warning."""
        self.lines.append(f"warning: {text}")


class ConsoleReporter:
    """Writes to standard error, with bars when that is a terminal."""

    def line(self, text: str) -> None:
        """Write a line without tearing a bar that is open."""
        text = printable(text)  # lines quote files and plugins, whose text a terminal must not obey
        # A bar can be open only if tqdm was imported. Importing it takes a while, so a line alone does not.
        if "tqdm" in sys.modules:
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr)  # noqa: T201 - the one place that prints
        sys.stderr.flush()  # a line must be visible before the work that follows it, which may take minutes

    def warning(self, text: str) -> None:
        """Write a line that begins with `warning: `."""
        self.line(f"warning: {text}")

    def bar(
        self, total: int, what: str, *, done: int = 0, keep: bool = False, shown: bool | None = None
    ) -> ProgressBar:
        """Open a bar of tqdm."""
        # A file or another program would receive a bar as thousands of lines.
        if shown is None:
            # The kernel of a notebook is no terminal, but shows bars as one does.
            shown = sys.stderr.isatty() or "ipykernel" in sys.modules
        if not shown:
            return _NoBar()
        from tqdm import tqdm

        # A terminal that does not know its width reports 0, for which tqdm would leave the bar out.
        # It reports a height of 0 with it, below which tqdm hides the bar.
        width = None
        height = None
        if not _terminal_width():
            width = _USUAL_WIDTH
            height = _USUAL_HEIGHT
        return _TqdmBar(
            tqdm(
                total=total,
                desc=what,
                initial=done,
                leave=keep,
                file=sys.stderr,
                ncols=width,
                nrows=height,
                dynamic_ncols=width is None,
            )
        )


def _terminal_width() -> int:
    """Columns of the terminal that standard error writes to; 0 when they are unknown."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # no terminal, or no file
        return 0


# Callers update a bar without asking whether there is one.
class _NoBar:
    """A bar that shows nothing."""

    def advance(self) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class _TqdmBar:
    """A bar of tqdm."""

    def __init__(self, bar: "tqdm[Any]") -> None:
        self._bar = bar

    def advance(self) -> None:
        """Move the bar."""
        self._bar.update()

    def note(self, text: str) -> None:
        """Show a text behind the bar."""
        self._bar.set_postfix_str(text)

    def close(self) -> None:
        """Close the bar."""
        self._bar.close()


# A context variable, not a global one: two programs in one process, such as tests, then keep their reports apart.
_current: ContextVar[Reporter] = ContextVar("reporter")
_console = ConsoleReporter()


def reporter() -> Reporter:
    """Return the current reporter."""
    return _current.get(_console)


@contextmanager
def reporting_to(chosen: Reporter) -> Iterator[Reporter]:
    """Context in which `chosen` is the current reporter.

    Threads that start inside the context do not inherit it. The thread that waits for them must report their results.
    """
    token = _current.set(chosen)
    try:
        yield chosen
    finally:
        _current.reset(token)


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass items through, with a progress bar.

    Args:
        items: The items.
        total: Number of items.
        what: Text beside the bar, such as `packing images`.

    Yields:
        The items.
    """
    bar = reporter().bar(total, what)
    try:
        for item in items:
            yield item
            bar.advance()  # after the caller has used the item, so that the bar never runs ahead of the work
    finally:
        bar.close()
