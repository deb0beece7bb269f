"""Standard output belongs to a command's results; whatever else is printed while it works goes to standard error.

Libraries and plugins print what they like. Their words must not end up inside the JSON that a command writes, so
`Command` points `sys.stdout` to standard error while a command runs, and `result` writes to the stream that was
standard output before. Compiled libraries and child processes write to file descriptor 1 instead; the program points
that to standard error too (`keep_descriptor_for_results`).
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar, cast

import click

from neuropbr_core.reporting import break_silence, terminal_width
from neuropbr_core.shown import printable, shortened

F = TypeVar("F", bound=Callable[..., Any])

OUTPUT = ("-o", "--output", "--out")
"""The option that says where a command's files go: a short form, the form in texts, and the form of many other tools.

All commands take all three, so that nobody has to remember which command takes which.
"""

_results: ContextVar[TextIO | None] = ContextVar("results", default=None)


class Command(click.Command):
    """A command whose standard output holds results alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of the command line; none may hold a zero byte, which no path has."""
        for word in args:
            if "\0" in word:
                ctx.fail(f"{shortened(word)}: holds a zero byte, which no path or name has")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        # Remembered before the redirection, because `result` writes there.
        token = _results.set(sys.stdout)
        try:
            with redirect_stdout(sys.stderr):
                return super().invoke(ctx)
        finally:
            _results.reset(token)


def command(name: str | None = None, **attributes: Any) -> Callable[[F], Command]:
    """Turn a function into a `Command`, as `click.command` does."""
    # click's types do not tell that the result has the class that `cls` names.
    return cast("Callable[[F], Command]", click.command(name, cls=Command, **attributes))


def open_closed_streams() -> None:
    """Open the null device as each standard stream that the program was started without, as `2>&-` does.

    Otherwise the first files that are opened get the numbers 0 to 2, and what libraries print goes into them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor


def keep_descriptor_for_results() -> None:
    """Point file descriptor 1 to standard error for the rest of the process; `sys.stdout` still writes where it did."""
    try:
        sys.stdout.flush()
        kept = os.dup(sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return  # standard output is closed or no file, so nothing can get into it
    encoding = sys.stdout.encoding
    errors = sys.stdout.errors
    buffering = 1 if sys.stdout.isatty() else -1  # a person sees each line at once
    sys.stdout = open(kept, "w", buffering=buffering, encoding=encoding, errors=errors)  # noqa: PTH123, SIM115 - a descriptor
    # From here on, descriptor 1 is standard error, also for child processes and compiled libraries.
    os.dup2(2, 1)


def help_width() -> int:
    """Columns of help texts, as click finds them: those of the terminal, and at most 78.

    click imports `shutil` for it, with all that it needs to pack archives; that takes a twentieth of `--help`.
    """
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns <= 0:
        columns = terminal_width() or 80
    return max(min(columns, 80) - 2, 50)


def result(text: str) -> None:
    """Write a line of a command's result to standard output."""
    break_silence()
    click.echo(printable(text), file=_results.get())


def result_json(value: object) -> None:
    """Write a command's result as JSON to standard output; numbers that are not finite become null.

    Args:
        value: Dictionaries, lists, tuples and scalars.
    """
    result(text_of_json(value))


def text_of_json(value: object) -> str:
    """A command's result as JSON for `result`; numbers that are not finite become null.

    Args:
        value: Dictionaries, lists, tuples and scalars.
    """
    # Which a help text does not need.
    import json

    from neuropbr_core.files import finite

    # In ASCII, because `result` would show control characters by escapes that JSON does not have; one is ASCII itself.
    return json.dumps(finite(value), indent=2, allow_nan=False).replace("\x7f", "\\u007f")


def aligned(rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """Put cells under each other, left-aligned, two spaces apart; the last column is not padded.

    Args:
        rows: Rows of equally many cells.
        indent: The start of each line.
    """
    lines = _lines(rows, lambda cell, width, _: cell.ljust(width))
    return "\n".join((indent + line).rstrip() for line in lines)


def numbers(rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """Put cells under each other, the first column left-aligned and all others right-aligned, two spaces apart.

    Args:
        rows: Rows of equally many cells.
        indent: The start of each line.
    """

    def pad(cell: str, width: int, column: int) -> str:
        if column == 0:
            return cell.ljust(width)
        return cell.rjust(width)

    return "\n".join(indent + line for line in _lines(rows, pad))


def _lines(rows: Iterable[Sequence[str]], pad: Callable[[str, int, int], str]) -> list[str]:
    """The lines of a table; `pad` brings a cell to the width of its column."""
    cells = [tuple(row) for row in rows]  # rows are needed twice, and may come from a generator
    widths: list[int] = []
    for column in zip(*cells, strict=True):
        widths.append(max(map(len, column)))
    lines = []
    for row in cells:
        padded = map(pad, row, widths, range(len(widths)))
        lines.append("  ".join(padded))
    return lines


def counted(count: int, noun: str) -> str:
    """A number with its noun, such as `1 sample` or `3 samples`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}s"
