"""Sawn wood: boards and parquet."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.courses import Courses, courses
from neuropbr_core.materials.procedural.layers import Finish, Layers, cover, dielectric
from neuropbr_core.materials.procedural.noise import fractal, shift
from neuropbr_core.materials.procedural.palette import PAINTS, Rgb, linear, ramp, shade, swatch
from neuropbr_core.materials.procedural.shaping import covering, mix, rounded, smoothstep
from neuropbr_core.materials.procedural.weathering import dirtied, scratches

# Colours of early and late wood.
_WOODS: tuple[tuple[Rgb, Rgb], ...] = (
    ((196, 150, 98), (142, 94, 54)),
    ((214, 178, 126), (170, 124, 74)),
    ((126, 84, 56), (78, 50, 34)),
    ((164, 102, 64), (104, 58, 36)),
    ((154, 144, 130), (98, 90, 82)),
    ((186, 160, 124), (128, 104, 76)),
    ((92, 66, 50), (56, 40, 32)),
)


class _Grain(NamedTuple):
    """Figure of the wood over the tile, along u.

    Attributes:
        rings: 0 in early wood, 1 in late wood.
        fibre: Fine lines of mean 0 and deviation 1.
        knots: 1 in the middle of knots.
    """

    rings: Float[Tensor, "S S"]
    fibre: Float[Tensor, "S S"]
    knots: Float[Tensor, "S S"]


def planks(canvas: Canvas) -> Layers:
    """Boards with rings, fibres and knots; sawn, varnished, weathered or with flaking paint.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    rows = draws.choice((4, 5, 6, 8, 10))
    columns = 1
    if rows > 6:
        # Narrow boards may be shorter than the tile.
        columns = draws.choice((1, 1, 2, 3))
    boards = courses(canvas.at, draws, rows, columns, bond=None, jitter=0.15)
    gap = draws.uniform(0.01, 0.05) / rows
    inside = boards.inside(gap, 0.01 / rows) + fractal(canvas, 8, 4, stretch=3) * (0.004 / rows)
    grain = _grain(canvas, boards, rows)
    wear = draws.log_uniform(0.0003, 0.0016)
    top = (gap + 0.006 / rows) + wear * (0.6 * grain.rings + 0.45 * grain.fibre) - 0.001 * grain.knots
    top = top + 0.02 / rows * _cupped(canvas, boards)
    height = top * rounded(inside, draws.uniform(0.02, 0.06) / rows)
    finish = _timber(canvas, boards, grain)
    if draws.chance(0.3):
        # Flaking paint: it holds longest on the fibres of early wood.
        field = fractal(canvas, 8, 5, stretch=2.5, gain=0.65) + 0.35 * grain.fibre - 0.3 * grain.rings
        stays = covering(field / 1.1, draws.uniform(0.35, 0.9), 0.04)
        paint = dielectric(shade(swatch(draws, PAINTS, 0.2), 0.04 * grain.fibre), draws.uniform(0.35, 0.65))
        finish = cover(finish, paint, stays)
        height = height + 0.0015 * stays
    # The gaps between boards are dark, because little light gets out of them.
    dark = dielectric(linear((38, 33, 30)), 0.95)
    finish = dirtied(canvas, finish, height, draws.uniform(0.005, 0.08))
    return Layers(height, cover(dark, finish, smoothstep(-0.002, 0.004, inside)))


def _grain(canvas: Canvas, boards: Courses, rows: int) -> _Grain:
    """Return rings around a pith beside each board, bent by knots; every board is cut from another place."""
    draws = canvas.draws
    place = draws.table(2, boards.total)[:, boards.identity]
    wander = shift(fractal(canvas, 3, 4, stretch=3), place[0], place[1]) * draws.uniform(0.08, 0.3)
    fibre = shift(fractal(canvas, 96, 2, stretch=24, gain=0.9), place[0], place[1])
    # A knot is a bump of height 1 around one point of some boards, longer than wide.
    where = (draws.table(2, boards.total) - 0.5)[:, boards.identity]
    present = (draws.table(boards.total) < draws.uniform(0, 0.6))[boards.identity]
    x = boards.across - 1.6 * boards.half_width * where[0]
    y = boards.down - 1.4 * boards.half_height * where[1]
    radius = 0.32 * boards.half_height
    knots = torch.exp((x * x / 4 + y * y) / -(radius * radius)) * present
    # Rings are at equal distances from the pith, which bends along the board.
    pith = (3 * draws.table(boards.total) - 1.5)[boards.identity]
    along = 0.35 * (boards.across * (2 * math.pi)).sin() * (draws.table(boards.total) - 0.5)[boards.identity]
    distance = torch.hypot(boards.down * rows - pith, wander * 0.5 + 0.25) + 0.3 * wander + along
    turns = distance * draws.uniform(7, 16) + 3.5 * knots.clamp(0, 0.9) + 0.1 * fibre
    phase = turns - turns.floor()
    # Wood darkens slowly through the season and starts anew at once.
    rings = smoothstep(0.1, 0.85, phase) * (1 - smoothstep(0.88, 1.0, phase))
    return _Grain(rings, fibre, smoothstep(0.55, 0.8, knots))


def _cupped(canvas: Canvas, boards: Courses) -> Float[Tensor, "S S"]:
    """Return the relief of boards that are bent across their width and of uneven height, -1 to 1."""
    bend, lie = (2 * canvas.draws.table(2, boards.total) - 1)[:, boards.identity]
    cupped: Float[Tensor, "S S"] = 0.7 * bend * (boards.down / boards.half_height).square() + 0.3 * lie
    return cupped


def _timber(canvas: Canvas, boards: Courses, grain: _Grain) -> Finish:
    """Return the finish of one kind of wood, each board a little lighter or darker."""
    draws = canvas.draws
    colors = [linear(color) for color in draws.choice(_WOODS)]
    tone = draws.uniform(0.1, 0.4) * (2 * draws.table(boards.total) - 1)[boards.identity]
    base = shade(ramp(0.75 * grain.rings + 0.12 * grain.fibre, colors), tone + 0.12 * grain.fibre)
    base = mix(base, linear((62, 40, 28)), 0.8 * grain.knots)
    matt = draws.choice((0.25, 0.4, 0.6, 0.75))
    return dielectric(base, matt + 0.06 * grain.fibre - 0.08 * grain.rings)


def parquet(canvas: Canvas) -> Layers:
    """Basket-weave parquet: squares of staves, each square turned against its neighbours, varnished.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    squares = draws.choice((4, 6, 8))
    staves = draws.choice((3, 4, 5))
    u, v = canvas.at
    x = u * squares
    y = v * squares
    # Squares whose staves run down the tile exchange the axes; everything else then works along u.
    turned = torch.remainder(x.floor() + y.floor(), 2) > 0.5
    at = (torch.where(turned, y, x) / squares, torch.where(turned, x, y) / squares)
    boards = courses(at, draws, squares * staves, squares, bond=0.0)
    pitch = 1 / (squares * staves)
    inside = boards.inside(0.02 * pitch, 0.02 * pitch)
    # Straight grain along each stave, every stave cut from another place.
    place = draws.table(2, boards.total)[:, boards.identity]
    fibre = _along_staves(canvas, place, turned, 96, 2, 12)
    bands = _along_staves(canvas, place, turned, 24, 3, 10)
    grain = _Grain(smoothstep(-0.8, 1.6, bands), fibre, canvas.zeros())
    raised = rounded(inside, 0.06 * pitch)
    height = 0.03 * pitch * raised + raised * (0.00015 * grain.fibre + 0.015 * pitch * _cupped(canvas, boards))
    finish = _timber(canvas, boards, grain)
    marks = scratches(canvas, draws.integer(0, 8), 0.0015)
    finish = Finish(finish.base_linear, finish.roughness * draws.uniform(0.5, 1) + 0.15 * marks, finish.metallic)
    finish = cover(dielectric(linear((48, 36, 28)), 0.8), finish, smoothstep(-0.001, 0.003, inside))
    return Layers(height - 0.0004 * marks, dirtied(canvas, finish, height, draws.uniform(0.002, 0.04)))


def _along_staves(
    canvas: Canvas, place: Float[Tensor, "2 S S"], turned: Tensor, cells: int, octaves: int, stretch: float
) -> Float[Tensor, "S S"]:
    """Return noise stretched along each stave and displaced by the stave's own offset `place`."""
    flat = shift(fractal(canvas, cells, octaves, stretch=stretch), place[0], place[1])
    upright = shift(fractal(canvas, cells, octaves, stretch=1 / stretch), place[0], place[1])
    return torch.where(turned, upright, flat)
