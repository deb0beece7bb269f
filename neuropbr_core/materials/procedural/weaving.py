"""Woven threads: which thread is on top at each sample, and its height."""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Positions

Weave = Literal["plain", "basket", "twill", "herringbone", "satin"]
REPEAT = 8
"""Threads after which every weave repeats; counts must be multiples of it."""


class Threads(NamedTuple):
    """The thread on top at each sample.

    Attributes:
        height: Height, about -1 to 1, in units of a thread's radius.
        warp: Whether the thread is a warp, which runs down the tile; else it is a weft.
        across: Offset from the thread's middle, -1 to 1.
        along: Position along the thread, in threads crossed.
        number: Number of the thread among those of its direction.
    """

    height: Float[Tensor, "S S"]
    warp: Tensor
    across: Float[Tensor, "S S"]
    along: Float[Tensor, "S S"]
    number: Int64[Tensor, "S S"]


def draft(weave: Weave) -> Float[Tensor, "8 8"]:
    """Return a weave's draft: which thread is on top at each crossing.

    Args:
        weave: The pattern.

    Returns:
        1 where the warp is on top, -1 where the weft is; rows are wefts, columns are warps.
    """
    warp = torch.arange(REPEAT)[None, :]
    weft = torch.arange(REPEAT)[:, None]
    # A herringbone is a twill whose diagonal turns back half-way.
    mirrored = torch.where(warp < REPEAT // 2, warp, REPEAT - 1 - warp)
    over = {
        "plain": (warp + weft) % 2 == 0,
        "basket": (warp // 2 + weft // 2) % 2 == 0,
        "twill": (warp + weft) % 4 < 2,
        "herringbone": (mirrored + weft) % 4 < 2,
        "satin": (warp + 3 * weft) % 8 != 0,
    }[weave]
    return over.float() * 2 - 1


def woven(at: Positions, count: int, weave: Weave, flatness: float) -> Threads:
    """Weave `count` warps with as many wefts.

    Args:
        at: Positions in tiles, possibly displaced.
        count: Threads of each direction; a multiple of `REPEAT`.
        weave: The pattern.
        flatness: 0 for round threads, 1 for flat tapes.

    Returns:
        The threads on top.
    """
    over = draft(weave)
    x = at[0] * count
    y = at[1] * count
    column = x.floor()
    row = y.floor()
    # Offsets from the middles of the warp and of the weft that cross here.
    cx = 2 * (x - column) - 1
    cy = 2 * (y - row) - 1
    # Heights of both threads: the bend's sign is that of the warp, and a weft goes down where the warp goes up.
    warp = _bend(over, column, row, y - row, down=True) + _section(cx, flatness)
    weft = _section(cy, flatness) - _bend(over, column, row, x - column, down=False)
    on_top = warp > weft
    number = torch.where(on_top, column, row).remainder(count).long()
    height = torch.maximum(warp, weft) - 1
    return Threads(height, on_top, torch.where(on_top, cx, cy), torch.where(on_top, y, x), number)


def _section(across: Float[Tensor, "S S"], flatness: float) -> Float[Tensor, "S S"]:
    """Return the upper side of a thread: a circle's arc that flattens, 1 in the middle and 0 at the sides."""
    exponent = 2 + 6 * flatness
    # The arc is vertical at the side; clamped, its slope stays finite.
    return (1 - across.abs().clamp_max(0.98) ** exponent).sqrt()


def _bend(over: Tensor, column: Tensor, row: Tensor, within: Tensor, *, down: bool) -> Float[Tensor, "S S"]:
    """Return how a thread bends over and under along its length, -0.5 to 0.5, smoothly from crossing to crossing."""
    step = torch.where(within > 0.5, 1.0, -1.0)
    here = _crossing(over, column, row)
    there = _crossing(over, column, row + step) if down else _crossing(over, column + step, row)
    # Half a cosine from the middle of this crossing to the middle of the nearer neighbour; both weigh 1/2 between.
    weight = 0.5 - 0.5 * torch.cos((within - 0.5).abs() * math.pi)
    return 0.5 * (here * (1 - weight) + there * weight)


def _crossing(over: Tensor, column: Tensor, row: Tensor) -> Tensor:
    return over[torch.remainder(row, REPEAT).long(), torch.remainder(column, REPEAT).long()]
