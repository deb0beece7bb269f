"""Loose and laid ground, and roofs: pebbles, asphalt, soil, sand, shingles."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.cells import voronoi
from neuropbr_core.materials.procedural.courses import courses
from neuropbr_core.materials.procedural.layers import Finish, Layers, cover, dielectric
from neuropbr_core.materials.procedural.noise import blur, fractal, swayed
from neuropbr_core.materials.procedural.palette import EARTHS, Rgb, ramp, shade, swatch
from neuropbr_core.materials.procedural.shaping import covering, rounded, smoothstep
from neuropbr_core.materials.procedural.weathering import cracks, dirtied, stained

_STONES: tuple[Rgb, ...] = (
    (150, 144, 134), (112, 110, 108), (178, 164, 142), (128, 100, 82), (92, 94, 98), (196, 190, 180), (140, 120, 108),
)  # fmt: skip
_SANDS: tuple[Rgb, ...] = ((206, 180, 138), (188, 164, 128), (222, 208, 180), (164, 132, 98), (146, 138, 126))
_ROOFS: tuple[Rgb, ...] = ((92, 96, 104), (74, 76, 82), (164, 88, 62), (142, 74, 56), (120, 108, 96), (96, 104, 92))


def pebbles(canvas: Canvas) -> Layers:
    """River pebbles or crushed gravel: three sizes of stones on sand, the large ones on top.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    round_stones = draws.chance(0.6)
    coarse = draws.integer(6, 11)
    colors = [swatch(draws, _STONES, 0.25) for _ in range(3)]
    # The sand comes first; each size of stones is laid on what is there.
    grain = fractal(canvas, 64, 2, gain=0.9)
    finish = dielectric(shade(swatch(draws, (*EARTHS, *_SANDS)), 0.25 * grain), 0.93)
    height = 0.0012 * grain + 0.004 * fractal(canvas, 8, 4)
    wet = draws.choice((0.0, 0.0, 0.5))
    for count, share in ((4 * coarse, 0.95), (2 * coarse, 0.85), (coarse, 0.7)):
        top, stone = _stones(canvas, count, share, colors, round_stones)
        mask = smoothstep(-0.0008, 0.0008, top - height)
        height = torch.maximum(height, top)
        finish = cover(finish, stone, mask)
    # Water fills the pores: wet stones are darker and smoother.
    finish = Finish(shade(finish.base_linear, -0.6 * wet), finish.roughness * (1 - wet), finish.metallic)
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.01, 0.08)))


class _StoneShape(NamedTuple):
    """Shape of the stones; lengths are shares of a stone's mean width.

    Attributes:
        octaves: Octaves of the outline's waviness.
        sway: Standard deviation of that waviness.
        corner: Radius of the outline's corners.
        rounding: Width of the rounded edge.
        thickness: Height of a stone.
        slope: Largest tilt of a stone's top, as a slope.
        roughness: Lowest roughness.
    """

    octaves: int
    sway: float
    corner: float
    rounding: float
    thickness: float
    slope: float
    roughness: float


_RIVER = _StoneShape(1, 0.08, 0.12, 0.3, 0.2, 0.08, 0.55)
_CRUSHED = _StoneShape(4, 0.05, 0.015, 0.16, 0.16, 0.22, 0.8)


def _stones(canvas: Canvas, count: int, share: float, colors: list[Tensor], smooth: bool) -> tuple[Tensor, Finish]:
    """Return height, far below zero between the stones, and finish of stones of one size."""
    draws = canvas.draws
    shape = _RIVER if smooth else _CRUSHED
    at = swayed(canvas, count, shape.octaves, shape.sway / count)
    cells = voronoi(at, draws, count, jitter=0.8, corner=shape.corner / count)
    lean = (2 * draws.table(3, cells.total) - 1)[:, cells.identity]
    dome = rounded(cells.border - 0.02 / count, shape.rounding / count) - 1
    top = shape.thickness / count * (1.25 + dome + 0.3 * lean[2])
    top = top + shape.slope * (lean[0] * cells.across + lean[1] * cells.down)
    # The rim drops steeply, so that a stone looks like a whole stone whose lower half is buried.
    top = top - 0.14 / count * (1 - smoothstep(0, 0.1 / count, cells.border - 0.02 / count))
    present = (draws.table(cells.total) < share)[cells.identity] & (cells.border > 0.02 / count)
    speck = fractal(canvas, 48, 3, gain=0.8)
    # Callers take the maximum with the ground, which is never as low as -1.
    top = torch.where(present, top + 0.0006 * speck, -1.0)
    place = draws.table(cells.total)[cells.identity]
    tone = 0.5 * (2 * draws.table(cells.total) - 1)[cells.identity]
    base = shade(ramp(place, colors), tone + 0.18 * speck)
    return top, dielectric(base, shape.roughness + 0.15 * place + 0.04 * speck)


def asphalt(canvas: Canvas) -> Layers:
    """Road asphalt: crushed stone in bitumen, polished where it is driven on, cracked and patched.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    count = draws.integer(36, 56)
    cells = voronoi(canvas.at, draws, count, jitter=0.8)
    reach = (0.1 + 0.25 * draws.table(cells.total))[cells.identity] / count
    lie = draws.table(cells.total)[cells.identity]
    stone = rounded(cells.border - 0.3 * reach, 0.25 / count) * lie
    fine = fractal(canvas, 64, 2, gain=0.9)
    gaps = cracks(canvas, draws.integer(2, 3), 0.01, draws.choice((0.02, 0.4)))
    height = 0.12 / count * stone + 0.0006 * fine + 0.005 * fractal(canvas, 2, 4) - 0.008 * gaps
    matt = draws.uniform(0.55, 0.9)
    # Tyres wear the bitumen off the highest stones.
    bare = smoothstep(0.35, 0.7, stone) * draws.uniform(0.3, 1.0)
    tar = shade(swatch(draws, ((58, 58, 60), (76, 76, 76), (96, 94, 92))), 0.12 * fine - 0.6 * gaps)
    rock = shade(swatch(draws, _STONES, 0.2), 0.5 * (draws.table(cells.total)[cells.identity] - 0.5) + 0.1 * fine)
    finish = cover(dielectric(tar, matt + 0.03 * fine), dielectric(rock, matt - 0.12), bare * (1 - gaps))
    finish = stained(canvas, finish, draws.uniform(0.05, 0.2))
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.005, 0.06)))


def soil(canvas: Canvas) -> Layers:
    """Bare earth: clods, crumbs and small stones, dry and cracked or damp and dark.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    lumps = fractal(canvas, draws.integer(4, 8), 7, gain=draws.uniform(0.42, 0.52))
    crumbs = fractal(canvas, 48, 3, gain=0.85)
    gaps = cracks(canvas, draws.integer(5, 9), 0.012, draws.choice((0.02, 0.02, 0.8)))
    height = draws.uniform(0.003, 0.007) * lumps + 0.0008 * crumbs - 0.008 * gaps
    earth = [swatch(draws, EARTHS, 0.2), swatch(draws, EARTHS, 0.2)]
    base = shade(ramp(0.5 + 0.25 * fractal(canvas, 3, 5), earth), 0.2 * crumbs + 0.12 * lumps - 0.8 * gaps)
    finish = dielectric(base, 0.93 + 0.02 * crumbs)
    top, stone = _stones(canvas, draws.integer(14, 30), draws.uniform(0.02, 0.3), [swatch(draws, _STONES)] * 2, True)
    # Stones rest on the ground's mean height, not on its crumbs, and sink in a little.
    settled = blur(height, 0.03) + top - 0.001
    mask = smoothstep(-0.0008, 0.0008, settled - height)
    height = torch.maximum(height, settled)
    finish = cover(finish, stone, mask)
    # Water gathers in hollows.
    damp = covering(fractal(canvas, 2, 5) - 0.4 * lumps, draws.choice((0.01, 0.4, 0.9)), 0.9)
    soaked = Finish(shade(finish.base_linear, -0.7), finish.roughness * 0.6, finish.metallic)
    return Layers(height, cover(finish, soaked, damp))


def sand(canvas: Canvas) -> Layers:
    """Sand with wind ripples, or raked or flat; grains of mixed colour.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    ripples = draws.integer(6, 16)
    slant = draws.integer(-3, 3)
    bend = fractal(canvas, 2, 3) * draws.uniform(0.1, 0.5)
    # Whole numbers of ripples along both axes, so that they meet at the tile's edges.
    phase = canvas.v * ripples + canvas.u * slant + bend
    # The inner sine makes one flank steeper than the other, as wind does.
    wave = torch.sin(phase * (2 * math.pi) + 0.5 * torch.sin(phase * (2 * math.pi)))
    grains = fractal(canvas, 96, 2, gain=1.0)
    swell = fractal(canvas, 2, 3)
    strength = draws.choice((0.01, 0.04, 0.07)) * (0.75 + 0.25 * fractal(canvas, 2, 2)).clamp(0.2, 1.2)
    height = strength / ripples * wave + 0.004 * swell + draws.uniform(0.0002, 0.0006) * grains
    base = shade(swatch(draws, _SANDS, 0.15), 0.1 * wave * draws.uniform(-1, 1) + 0.2 * grains + 0.05 * swell)
    finish = dielectric(base, draws.uniform(0.7, 0.93) + 0.03 * grains)
    return Layers(height, stained(canvas, finish, draws.uniform(0.02, 0.1)))


def shingles(canvas: Canvas) -> Layers:
    """Overlapping roof slates or clay tiles: each row lies on the one below, worn at its lower edge.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    rows = draws.choice((5, 6, 8, 10))
    columns = max(3, round(rows * draws.uniform(0.6, 1.0)))
    arched = draws.choice((0.0, 0.0, 0.1)) / columns
    at = swayed(canvas, 2 * rows, 4, 0.012 / rows, gain=0.6)
    ragged = draws.uniform(0, 0.06) / rows * (2 * draws.table(rows * columns) - 1)
    laid = courses(at, draws, rows, columns, bond=None if rows % 2 else 0.5, jitter=0.1)
    fall = laid.down + laid.half_height  # from the upper edge of the visible part, where the row above ends
    thick = draws.uniform(0.03, 0.09) / rows
    length = 1 / rows - 0.006 - ragged[laid.identity].abs()
    seam = laid.half_width - laid.across.abs() - 0.012 / columns
    side = smoothstep(0, 0.006 + thick, seam)
    end = smoothstep(0, 0.006 + thick + 0.5 * arched, length - fall)
    arch = arched * (1 - (laid.across / laid.half_width).square())
    grain = fractal(canvas, 24, 4, gain=0.75)
    lie = draws.table(laid.total)[laid.identity]
    # A sheet rests on the row below, so it rises towards its lower edge.
    sheet = fall / (1 / rows) * 1.3 * thick + thick * (0.3 + 0.5 * lie) + 0.03 * thick * grain + arch
    solid = side * end
    height = sheet * side * end
    colors = [swatch(draws, _ROOFS, 0.2), swatch(draws, _ROOFS, 0.1)]
    place = draws.uniform(0, 1) * draws.table(laid.total)[laid.identity]
    tone = 0.3 * (2 * draws.table(laid.total) - 1)[laid.identity] + 0.14 * grain - 0.8 * (1 - solid)
    lichen = covering(fractal(canvas, 6, 5, gain=0.7), draws.choice((0.005, 0.05, 0.2)), 0.1)
    stone = dielectric(shade(ramp(place, colors), tone), draws.uniform(0.55, 0.8) + 0.05 * grain)
    growth = dielectric(swatch(draws, ((160, 160, 116), (178, 178, 164), (92, 100, 56))), 0.95)
    finish = cover(stained(canvas, stone, 0.15), growth, 0.8 * lichen)
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.01, 0.12)))
