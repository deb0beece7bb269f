"""Reports of long work to people: lines, warnings and progress bars, all through one `Reporter`.

The current reporter is a context variable, so that no function has to pass it on. It starts as a `ConsoleReporter`.
`reporting_to` replaces it for a block of code, by which programs silence or capture the library's reports. All reports
go to standard error. Standard output belongs to the results of commands.
"""

import os
import sys
import threading
import time
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
        if sys.stderr is None:
            return  # of a program without a terminal, which uses neuropbr as a library
        break_silence()
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
            shown = (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel" in sys.modules
        if not shown:
            return _NoBar()
        break_silence()
        from tqdm import tqdm

        # A terminal that does not know its width reports 0, for which tqdm would leave the bar out.
        # It reports a height of 0 with it, below which tqdm hides the bar.
        width = None
        height = None
        if not terminal_width():
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


_doing: list[str] = []
"""What the program does now, outermost first."""


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Context that tells what long work is about to happen; a terminal shows it when the work takes seconds.

    Args:
        what: The work, such as `predicting the maps`.
    """
    _doing.append(what)
    try:
        yield
    finally:
        _doing.pop()


_open_bars: "list[tqdm[Any]]" = []
"""Bars that are complete and open. Those of tqdm's own list may be half made, and drawing such a bar fails."""

_bars_lock = threading.Lock()


class _Pulse(threading.Thread):
    """Shows on a terminal that the program works when nothing else has been shown for a while.

    Args:
        silence: Seconds without a line from which it shows something.
        every: Seconds between two looks.
    """

    def __init__(self, silence: float, every: float) -> None:
        super().__init__(name="pulse", daemon=True)
        self._silence = silence
        self._every = every
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._since = time.monotonic()
        self._shown = False

    def run(self) -> None:
        """Look again and again until the end."""
        while not self._over.wait(self._every):
            # A bar shows itself how long it has been open, if somebody draws it: an item may take minutes.
            with _bars_lock:
                for bar in _open_bars:
                    bar.refresh()
                if _open_bars:
                    self._since = time.monotonic()
                    continue
            with self._lock:
                quiet = time.monotonic() - self._since
                if quiet < self._silence:
                    continue
                # A copy, because the program may be through with its work between two looks at the list.
                what = ["working", *_doing][-1]
                # The cursor goes back to the beginning, so that what is printed past this class replaces the text.
                sys.stderr.write(f"\r\x1b[2K{what} ({quiet:.0f} s)\r")
                sys.stderr.flush()
                self._shown = True

    def interrupt(self) -> None:
        """Remove what is shown, before something else is."""
        with self._lock:
            if self._shown:
                sys.stderr.write("\r\x1b[2K")
                sys.stderr.flush()
                self._shown = False
            self._since = time.monotonic()

    def end(self) -> None:
        """Show nothing from now on."""
        self._over.set()
        self.join()
        self.interrupt()


_pulse: _Pulse | None = None


@contextmanager
def pulse(silence: float = 2.0, every: float = 1.0) -> Iterator[None]:
    """Context in which a terminal shows that the program works, whenever nothing else is shown for some seconds.

    Nothing happens where standard error is no terminal, or one that cannot erase a line.

    Args:
        silence: Seconds without a line from which it shows something.
        every: Seconds between two looks.
    """
    global _pulse  # noqa: PLW0603 - there is one standard error
    if _pulse is not None or sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") in (None, "dumb"):
        yield
        return
    _pulse = _Pulse(silence, every)
    _pulse.start()
    try:
        yield
    finally:
        _pulse.end()
        _pulse = None


def break_silence() -> None:
    """Say that something is about to be shown: what `pulse` shows goes, and its time begins anew."""
    if _pulse is not None:
        _pulse.interrupt()


def duration(seconds: float) -> str:
    """Seconds for people, in two units at most: `5 s`, `12 min 30 s`, `3 h 0 min`."""
    # Not negative, which it could be where the clock of a file server runs ahead.
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{rest} s"


def terminal_width() -> int:
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
        with _bars_lock:
            _open_bars.append(bar)

    def advance(self) -> None:
        """Move the bar."""
        self._bar.update()

    def note(self, text: str) -> None:
        """Show a text behind the bar."""
        self._bar.set_postfix_str(text)

    def close(self) -> None:
        """Close the bar."""
        with _bars_lock:
            if self._bar in _open_bars:
                _open_bars.remove(self._bar)
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
