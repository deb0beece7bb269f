"""Plain text tables."""

from collections.abc import Callable, Iterable, Sequence


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
