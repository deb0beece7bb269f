"""Threads that cross: which is on top, and how high it lies."""

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
    """What each sample knows of the thread on top there.

    Attributes:
        height: -1 to 1, in units of a thread's radius, about.
        warp: Whether it runs down the tile.
        across: From the thread's middle, -1 to 1.
        along: Position along it, in threads crossed.
        number: Which of the threads of its direction.
    """

    height: Float[Tensor, "S S"]
    warp: Tensor
    across: Float[Tensor, "S S"]
    along: Float[Tensor, "S S"]
    number: Int64[Tensor, "S S"]


def draft(weave: Weave) -> Float[Tensor, "8 8"]:
    """Which thread is on top at each crossing: 1 the warp, -1 the weft; rows are wefts."""
    warp, weft = torch.arange(REPEAT)[None, :], torch.arange(REPEAT)[:, None]
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
        at: Positions, perhaps displaced.
        count: Threads of each direction; a multiple of `REPEAT`.
        weave: The pattern.
        flatness: 0 for round threads, 1 for flat tapes.

    Returns:
        The threads on top.
    """
    over = draft(weave)
    x, y = (position * count for position in at)
    column, row = x.floor(), y.floor()
    cx, cy = 2 * (x - column) - 1, 2 * (y - row) - 1
    warp = _bend(over, column, row, y - row, down=True) + _section(cx, flatness)
    weft = _section(cy, flatness) - _bend(over, column, row, x - column, down=False)
    on_top = warp > weft
    number = torch.where(on_top, column, row).remainder(count).long()
    height = torch.maximum(warp, weft) - 1
    return Threads(height, on_top, torch.where(on_top, cx, cy), torch.where(on_top, y, x), number)


def _section(across: Float[Tensor, "S S"], flatness: float) -> Float[Tensor, "S S"]:
    """Upper side of a thread: a circle's arc that flattens, 1 in the middle and 0 at the sides."""
    exponent = 2 + 6 * flatness
    return (1 - across.abs().clamp_max(0.98) ** exponent).sqrt()


def _bend(over: Tensor, column: Tensor, row: Tensor, within: Tensor, *, down: bool) -> Float[Tensor, "S S"]:
    """How a thread bends over and under along its way, -0.5 to 0.5: smooth from crossing to crossing."""
    step = torch.where(within > 0.5, 1.0, -1.0)
    here = _crossing(over, column, row)
    there = _crossing(over, column, row + step) if down else _crossing(over, column + step, row)
    weight = 0.5 - 0.5 * torch.cos((within - 0.5).abs() * math.pi)
    return 0.5 * (here * (1 - weight) + there * weight)


def _crossing(over: Tensor, column: Tensor, row: Tensor) -> Tensor:
    return over[torch.remainder(row, REPEAT).long(), torch.remainder(column, REPEAT).long()]
