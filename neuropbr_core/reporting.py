"""What long work tells people while it runs: lines, warnings and progress bars, all through one `Reporter`.

The reporter in force is a context variable, so that no function has to pass it on. It starts as a `ConsoleReporter`;
`reporting_to` replaces it for a block of code, which is how programs silence or capture what the library reports.
Everything goes to standard error. Standard output belongs to the results of commands.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")


class ProgressBar(Protocol):
    """A progress bar that is open."""

    def advance(self) -> None:
        """Count one more item."""

    def note(self, text: str) -> None:
        """Show a short text beside the bar, in place of the last one."""

    def close(self) -> None:
        """Close the bar; a closed bar may be closed again."""


class Reporter(Protocol):
    """Receives what long work tells people."""

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
            what: What happens to each item, such as `packing images`.
            done: Items that were done before.
            keep: Whether the bar stays on the screen after it is closed.
            shown: Whether to show it; default: when a person watches.
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
        lines: What was reported, in order; warnings begin with `warning: `.
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
        if "tqdm" in sys.modules:  # a bar can be open only if tqdm was imported, which takes a while
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr)  # noqa: T201 - the one place that prints
        sys.stderr.flush()

    def warning(self, text: str) -> None:
        """Write a line that begins with `warning: `."""
        self.line(f"warning: {text}")

    def bar(
        self, total: int, what: str, *, done: int = 0, keep: bool = False, shown: bool | None = None
    ) -> ProgressBar:
        """Open a bar of tqdm."""
        if shown is None:
            shown = sys.stderr.isatty()
        if not shown:
            return _NoBar()
        from tqdm import tqdm

        return _TqdmBar(tqdm(total=total, desc=what, initial=done, leave=keep, file=sys.stderr, dynamic_ncols=True))


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


_current: ContextVar[Reporter] = ContextVar("reporter")
_console = ConsoleReporter()


def reporter() -> Reporter:
    """The reporter in force."""
    return _current.get(_console)


@contextmanager
def reporting_to(chosen: Reporter) -> Iterator[Reporter]:
    """Context in which `chosen` is the reporter.

    Threads that start inside the context do not inherit it: what work in a thread has to tell is told by the thread
    that waits for it.
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
        total: How many there will be.
        what: What happens to each, such as `packing images`.
    """
    bar = reporter().bar(total, what)
    try:
        for item in items:
            yield item
            bar.advance()
    finally:
        bar.close()
