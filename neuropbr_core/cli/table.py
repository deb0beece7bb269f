"""Plain text tables."""

from collections.abc import Iterable, Sequence


def aligned(rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """Put cells under each other, left-aligned, two spaces apart; the last column is not padded.

    Args:
        rows: Rows of equally many cells.
        indent: What each line starts with.
    """
    cells = [tuple(row) for row in rows]
    widths = []
    for column in zip(*cells, strict=True):
        widths.append(max(map(len, column)))
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join((indent + line).rstrip() for line in lines)


def numbers(rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """Put cells under each other, the first column left-aligned and all others right-aligned, two spaces apart.

    Args:
        rows: Rows of equally many cells.
        indent: What each line starts with.
    """
    cells = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (zip(row, widths, strict=True) for row in cells)
    )
    return "\n".join(indent + line for line in lines)
