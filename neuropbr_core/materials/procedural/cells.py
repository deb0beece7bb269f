"""Voronoi cells that repeat exactly over the tile.

One feature point lies in each cell of a lattice that wraps. The nearest is looked for among the 3×3 lattice cells
around a sample, which is exact for the jitter allowed here but for rare far corners.

Sources: Worley 1996, "A Cellular Texture Basis Function"; the distance to a border is that to the bisector of the two
points beside it.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Draws, Positions

MAX_JITTER = 0.8
"""Largest share of a lattice cell in which its point is placed."""
_AROUND = (-1, 0, 1)
_HEXAGON = math.sqrt(3) / 2  # distance of rows over that of columns


class Cells(NamedTuple):
    """What each sample knows of its cell.

    Attributes:
        distance: To the cell's point, in tiles `(S, S)`.
        border: To the nearest border of the cell, in tiles; infinite where it was not asked for.
        identity: Number of the cell, from 0.
        total: Cells of the tile.
        across: From the point to the sample, to the right, in tiles.
        down: The same, down.
    """

    distance: Float[Tensor, "S S"]
    border: Float[Tensor, "S S"]
    identity: Int64[Tensor, "S S"]
    total: int
    across: Float[Tensor, "S S"]
    down: Float[Tensor, "S S"]


def voronoi(
    at: Positions,
    draws: Draws,
    count: int,
    *,
    jitter: float = 0.75,
    hexagons: bool = False,
    borders: bool = True,
    corner: float = 0.0,
) -> Cells:
    """Divide the tile into cells around random points.

    Args:
        at: Positions in tiles; displaced ones give wavy borders.
        draws: Source of the points.
        count: Rows and columns of the lattice; even for hexagons.
        jitter: How far points stray, as a share of a lattice cell, up to `MAX_JITTER`.
        hexagons: Shift every other row by half a cell and space columns so that, without jitter, cells are about
            regular hexagons.
        borders: Whether distances to borders are needed; they double the time.
        corner: Radius in tiles by which distances to several borders blend: it rounds the corners of what is cut out
            by them and leaves straight sides; 0 is the exact distance.

    Returns:
        The cells.
    """
    rows, columns = count, round(count * _HEXAGON) if hexagons else count
    points = 0.5 + min(jitter, MAX_JITTER) * (draws.table(2, rows, columns) - 0.5)
    if hexagons:
        points[0, 1::2] += 0.5
    candidates = _candidates(at[0] * columns, at[1] * rows, points)
    squared, which = _nearest(candidates)
    to_x, to_y = (_pick(part, which) for part in (candidates.to_x, candidates.to_y))
    border = _border(to_x, to_y, candidates, corner) if borders else torch.full_like(squared, torch.inf)
    return Cells(squared.sqrt(), border, _pick(candidates.numbers, which), rows * columns, -to_x, -to_y)


class _Candidates(NamedTuple):
    """The points of the 3×3 lattice cells around each sample: their numbers, and the way to them in tiles."""

    numbers: list[Int64[Tensor, "S S"]]
    to_x: list[Float[Tensor, "S S"]]
    to_y: list[Float[Tensor, "S S"]]


def _candidates(x: Tensor, y: Tensor, points: Float[Tensor, "2 rows columns"]) -> _Candidates:
    rows, columns = points.shape[1:]
    column, row = x.floor(), y.floor()
    starts = [torch.remainder(row + dy, rows).long() * columns for dy in _AROUND]
    steps = [torch.remainder(column + dx, columns).long() for dx in _AROUND]
    numbers = [start + step for start in starts for step in steps]
    in_x, in_y = points[0].flatten() / columns, points[1].flatten() / rows
    from_x = [(column - x + dx) / columns for dx in _AROUND]
    from_y = [(row - y + dy) / rows for dy in _AROUND]
    to_x = [from_x[index % 3] + in_x.take(number) for index, number in enumerate(numbers)]
    to_y = [from_y[index // 3] + in_y.take(number) for index, number in enumerate(numbers)]
    return _Candidates(numbers, to_x, to_y)


def _nearest(candidates: _Candidates) -> tuple[Float[Tensor, "S S"], Int64[Tensor, "S S"]]:
    """Squared distance to the nearest candidate, and which it is."""
    best = torch.full_like(candidates.to_x[0], torch.inf)
    which = torch.zeros_like(candidates.numbers[0])
    for index, (to_x, to_y) in enumerate(zip(candidates.to_x, candidates.to_y, strict=True)):
        squared = to_x * to_x + to_y * to_y
        which.masked_fill_(squared < best, index)
        best = torch.minimum(best, squared)
    return best, which


def _pick(parts: list[Tensor], which: Int64[Tensor, "S S"]) -> Tensor:
    """Of nine fields, the value of the one that each sample chose."""
    return torch.stack(parts).gather(0, which[None])[0]


def _border(to_x: Tensor, to_y: Tensor, candidates: _Candidates, corner: float) -> Tensor:
    """Distance to the bisectors between the nearest point p and the others q: ((p + q) / 2) · (q - p) / |q - p|.

    The least of them, or their soft minimum -c log Σ exp(-d / c).
    """
    border = torch.full_like(to_x, torch.inf)
    blended = torch.zeros_like(to_x)
    for other_x, other_y in zip(candidates.to_x, candidates.to_y, strict=True):
        gap_x, gap_y = other_x - to_x, other_y - to_y
        squared = gap_x * gap_x + gap_y * gap_y
        distance = ((to_x + other_x) * gap_x + (to_y + other_y) * gap_y) * torch.rsqrt(squared) / 2
        distance.masked_fill_(squared < 1e-12, torch.inf)
        if corner > 0:
            blended += torch.exp(distance / -corner)
        else:
            border = torch.minimum(border, distance)
    return blended.log() * -corner if corner > 0 else border
