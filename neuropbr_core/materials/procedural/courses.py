"""Blocks in rows, such as bricks, tiles and boards, repeating exactly over the tile."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Draws, Positions

MAX_JITTER = 0.45
"""Largest share of a block's mean length by which the joint between two neighbours moves."""


class Courses(NamedTuple):
    """The block of each sample; lengths are in tiles.

    Attributes:
        across: Offset to the right from the block's centre to the sample.
        down: Offset down from the block's centre to the sample.
        half_width: Half the block's width.
        half_height: Half the block's height.
        identity: Number of the block, from 0.
        total: Number of blocks in the tile.
    """

    across: Float[Tensor, "S S"]
    down: Float[Tensor, "S S"]
    half_width: Float[Tensor, "S S"]
    half_height: float
    identity: Int64[Tensor, "S S"]
    total: int

    def inside(self, gap: float, corner: float) -> Float[Tensor, "S S"]:
        """Compute the signed distance to the block's outline.

        Args:
            gap: Width of the joint between two blocks, in tiles.
            corner: Radius of the corners, in tiles.

        Returns:
            Distance in tiles, positive inside.

        Source: the exact distance to a rectangle (outer part by vector length, inner by maximum), rounded by offset.
        """
        x = self.across.abs() - (self.half_width - gap / 2 - corner)
        y = self.down.abs() - (self.half_height - gap / 2 - corner)
        outer = torch.hypot(x.clamp_min(0), y.clamp_min(0))
        return corner - outer - torch.maximum(x, y).clamp_max(0)


def courses(
    at: Positions,
    draws: Draws,
    rows: int,
    columns: int,
    *,
    bond: float | None = 0.5,
    jitter: float = 0.0,
) -> Courses:
    """Lay blocks in rows of one height.

    Args:
        at: Positions in tiles; displaced positions give wavy joints.
        draws: Source of random bonds and widths.
        rows: Rows of the tile; `rows * bond` must be whole, or the bond breaks at the tile's edge.
        columns: Blocks in a row.
        bond: Shift of each row against the one above, in blocks; None draws every row's shift.
        jitter: How much joints move, as a share of a block's mean length, up to `MAX_JITTER`.

    Returns:
        The blocks.
    """
    shifts = draws.table(rows) if bond is None else torch.arange(rows) * bond
    # Where joints are, as a deviation from whole columns.
    moved = min(jitter, MAX_JITTER) * (2 * draws.table(rows, columns) - 1)
    u, v = at
    y = v * rows
    row = y.floor()
    wrapped = torch.remainder(row, rows).long()
    x = u * columns + shifts[wrapped]
    column = x.floor()
    # A moved joint may put a sample into the neighbouring block; by less than half a block, so only into that.
    first = _joint(moved, wrapped, column)
    column = torch.where(x - column < first, column - 1, column)
    column = torch.where(x - column > 1 + _joint(moved, wrapped, column + 1), column + 1, column)
    start = column + _joint(moved, wrapped, column)
    end = column + 1 + _joint(moved, wrapped, column + 1)
    identity = wrapped * columns + torch.remainder(column, columns).long()
    across = (x - (start + end) / 2) / columns
    down = (y - row - 0.5) / rows
    return Courses(across, down, (end - start) / (2 * columns), 0.5 / rows, identity, rows * columns)


def _joint(moved: Float[Tensor, "rows columns"], row: Tensor, column: Tensor) -> Tensor:
    """Return how far the joint before a column is moved, in blocks."""
    return moved[row, torch.remainder(column, moved.shape[1]).long()]
