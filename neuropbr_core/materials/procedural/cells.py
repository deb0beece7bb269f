"""Voronoi cells that repeat exactly over the tile.

Each cell of a lattice that wraps contains one feature point. The nearest point is searched among the 3×3 lattice cells
around a sample. With the jitter allowed here, the search is exact except in rare far corners.

Sources: Worley 1996, "A Cellular Texture Basis Function"; the distance to a border is the distance to the bisector of
the two points beside it.
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
# Columns per row of a hexagonal lattice: rows are closer together than points within a row.
_HEXAGON = math.sqrt(3) / 2


class Cells(NamedTuple):
    """The cell of each sample.

    Attributes:
        distance: Distance to the cell's point, in tiles `(S, S)`.
        border: Distance to the nearest border of the cell, in tiles; infinite if it was not requested.
        identity: Number of the cell, from 0.
        total: Number of cells in the tile.
        across: Offset to the right from the cell's point to the sample, in tiles.
        down: Offset down from the cell's point to the sample, in tiles.
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
        at: Positions in tiles; displaced positions give wavy borders.
        draws: Source of the points.
        count: Rows and columns of the lattice; even for hexagons.
        jitter: How far points stray, as a share of a lattice cell, up to `MAX_JITTER`.
        hexagons: Shift every other row by half a cell and space columns so that, without jitter, cells are about
            regular hexagons.
        borders: Whether distances to borders are needed; they double the time.
        corner: Radius in tiles over which distances to several borders blend. It rounds the corners of shapes cut out
            by the distance and leaves their sides straight; 0 gives the exact distance.

    Returns:
        The cells.

    Source: Worley 1996 (distance to the nearest point).
    """
    rows = count
    columns = round(count * _HEXAGON) if hexagons else count
    points = 0.5 + min(jitter, MAX_JITTER) * (draws.table(2, rows, columns) - 0.5)
    if hexagons:
        points[0, 1::2] += 0.5
    in_x = points[0].flatten() / columns
    in_y = points[1].flatten() / rows
    x = at[0] * columns
    y = at[1] * rows
    column = x.floor()
    row = y.floor()
    # The points of the 3×3 lattice cells around each sample: their numbers, and the offsets to them in tiles. Lattice
    # indices wrap but offsets do not, so a point across the tile's edge is as near as it is in the endless tiling.
    numbers = []
    to_x = []
    to_y = []
    for dy in _AROUND:
        start = torch.remainder(row + dy, rows).long() * columns
        from_y = (row - y + dy) / rows
        for dx in _AROUND:
            number = start + torch.remainder(column + dx, columns).long()
            numbers.append(number)
            to_x.append((column - x + dx) / columns + in_x.take(number))
            to_y.append(from_y + in_y.take(number))
    nearest = torch.full_like(x, torch.inf)
    which = torch.zeros_like(numbers[0])
    for index in range(len(numbers)):
        squared = to_x[index] * to_x[index] + to_y[index] * to_y[index]
        which.masked_fill_(squared < nearest, index)
        nearest = torch.minimum(nearest, squared)
    near_x = _pick(to_x, which)
    near_y = _pick(to_y, which)
    border = torch.full_like(nearest, torch.inf)
    if borders:
        border = _border(near_x, near_y, to_x, to_y, corner)
    return Cells(nearest.sqrt(), border, _pick(numbers, which), rows * columns, -near_x, -near_y)


def _pick(fields: list[Tensor], which: Int64[Tensor, "S S"]) -> Tensor:
    """Return, for each sample, the value of the field whose index it chose."""
    return torch.stack(fields).gather(0, which[None])[0]


def _border(near_x: Tensor, near_y: Tensor, to_x: list[Tensor], to_y: list[Tensor], corner: float) -> Tensor:
    """Compute the distance to the bisectors between the nearest point p and the others q.

    The distance to one bisector is ((p + q) / 2) · (q - p) / |q - p|. The result is the smallest of these distances d,
    or, for corner c > 0, their soft minimum -c log Σ exp(-d / c).
    """
    border = torch.full_like(near_x, torch.inf)
    blended = torch.zeros_like(near_x)
    for other_x, other_y in zip(to_x, to_y, strict=True):
        gap_x = other_x - near_x
        gap_y = other_y - near_y
        squared = gap_x * gap_x + gap_y * gap_y
        distance = ((near_x + other_x) * gap_x + (near_y + other_y) * gap_y) * torch.rsqrt(squared) / 2
        # The nearest point is among the candidates and has no bisector with itself.
        distance.masked_fill_(squared < 1e-12, torch.inf)
        if corner > 0:
            blended += torch.exp(distance / -corner)
        else:
            border = torch.minimum(border, distance)
    if corner > 0:
        return blended.log() * -corner
    return border
