"""Walls and floors of laid pieces: bricks, glazed tiles, setts."""

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.cells import voronoi
from neuropbr_core.materials.procedural.courses import Courses, courses
from neuropbr_core.materials.procedural.layers import Finish, Layers, cover, dielectric
from neuropbr_core.materials.procedural.noise import fractal, swayed
from neuropbr_core.materials.procedural.palette import GREYS, PAINTS, Rgb, ramp, shade, swatch
from neuropbr_core.materials.procedural.shaping import covering, mix, rounded, smoothstep
from neuropbr_core.materials.procedural.weathering import cracks, dirtied, speckles, stained

_BRICKS: tuple[Rgb, ...] = (
    (158, 84, 62), (176, 104, 76), (134, 66, 54), (190, 142, 104), (206, 176, 134), (122, 92, 80), (150, 128, 112),
)  # fmt: skip
_GLAZES: tuple[Rgb, ...] = (
    (232, 230, 222), (232, 230, 222), (206, 214, 212), (70, 110, 120), (42, 66, 92), (92, 130, 104), (196, 172, 138),
    (64, 60, 58), (150, 70, 52), (170, 186, 196),
)  # fmt: skip
_SETTS: tuple[Rgb, ...] = ((118, 114, 110), (94, 92, 92), (140, 130, 118), (126, 108, 100), (156, 150, 142))


def bricks(canvas: Canvas) -> Layers:
    """Fired bricks in mortar: bonds, ragged edges, burnt and pale ones, stains, sometimes a coat of paint.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    rows = draws.choice((6, 8, 8, 10, 12, 16))
    columns = max(2, round(rows / draws.uniform(2.2, 3.6)))
    # Rows times the shift must be whole, or the bond breaks at the tile's edge; None shifts every row at random.
    quarter = 0.25 if rows % 4 == 0 else 0.5
    bond = draws.choice((0.5, 0.5, 0.5, quarter, None))
    at = swayed(canvas, 3, 4, 0.018 / rows)
    wall = courses(at, draws, rows, columns, bond=bond, jitter=draws.uniform(0, 0.06))
    gap = draws.uniform(0.10, 0.20) / rows
    ragged = fractal(canvas, 2 * rows, 4, gain=0.6) * (draws.uniform(0.01, 0.05) / rows)
    inside = wall.inside(gap, draws.uniform(0.02, 0.12) / rows) + ragged
    grain = fractal(canvas, 48, 3, gain=0.8)
    solid = smoothstep(0, 0.012, inside)
    # Relief is in units of the joint's width: the joint is about half as deep as wide.
    face = _tilted(canvas, wall, 0.03) + 0.03 * gap * grain + 0.06 * gap * fractal(canvas, 8, 4)
    pits = speckles(canvas, 40, 0.012, draws.uniform(0.05, 0.4))
    joint = 0.05 * gap * fractal(canvas, 64, 2, gain=0.8)
    height = mix(joint, draws.uniform(0.35, 0.7) * gap + face - 0.2 * gap * pits, rounded(inside, 0.35 * gap))
    mortar = _cement(canvas, ((204, 198, 186), (84, 80, 76)), 0.16, 0.92, 0.02)
    # Fired clay: one kiln's colours, with some bricks burnt dark and glassy. The first colour counts twice, so that it
    # prevails.
    colors = [swatch(draws, _BRICKS, 0.2)] * 2 + [swatch(draws, _BRICKS, 0.2)]
    place = draws.table(wall.total)[wall.identity] + 0.12 * fractal(canvas, 6, 5)
    tone = draws.uniform(0.1, 0.35) * (2 * draws.table(wall.total)[wall.identity] - 1)
    burnt = (draws.table(wall.total) < draws.uniform(0, 0.12))[wall.identity]
    base = shade(ramp(place, colors), tone + 0.14 * grain - 0.9 * burnt)
    clay = dielectric(base, draws.uniform(0.74, 0.9) + 0.04 * grain - 0.15 * burnt)
    finish = cover(mortar, clay, solid)
    if draws.chance(0.18):
        # Wall paint, mostly white, that has come off here and there; first in the joints.
        paint = dielectric(swatch(draws, ((228, 226, 218), (228, 226, 218), (206, 196, 176), *PAINTS)), 0.6)
        stays = covering(fractal(canvas, 4, 6, gain=0.65) + 0.3 * solid, draws.uniform(0.6, 0.97), 0.06)
        finish = cover(finish, paint, stays)
    finish = stained(canvas, finish, draws.uniform(0.05, 0.3))
    return Layers(height, finish)


def _tilted(canvas: Canvas, pieces: Courses, slope: float) -> Float[Tensor, "S S"]:
    """Return the relief of pieces that are a little tilted and not all equally high."""
    lean = (2 * canvas.draws.table(3, pieces.total) - 1)[:, pieces.identity]
    return slope * (lean[0] * pieces.across + lean[1] * pieces.down + 0.4 * lean[2] * pieces.half_height)


def _cement(canvas: Canvas, colors: tuple[Rgb, ...], contrast: float, roughness: float, spread: float) -> Finish:
    """Return mortar or grout: grey or one of `colors`, varied by sand in brightness (stops) and roughness."""
    sand = fractal(canvas, 64, 2, gain=0.9)
    base = swatch(canvas.draws, (*GREYS, *colors))
    return dielectric(shade(base, contrast * sand), roughness + spread * sand)


def tiles(canvas: Canvas) -> Layers:
    """Glazed ceramic in grout: squares, metro bond or hexagons, one colour or a chequer, flat or pillowed.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    inside, identity, count, pitch, tilt = _tile_layout(canvas)
    gap = draws.uniform(0.025, 0.07) * pitch
    pillow = draws.uniform(0.05, 0.3) * pitch
    edge = inside - gap / 2
    glazed = smoothstep(0, 0.004, edge)
    waves = fractal(canvas, 10, 2) * draws.uniform(0.0, 0.012) * pitch
    height = mix(0.01 * gap * fractal(canvas, 64, 2), 0.6 * gap + tilt + waves, rounded(edge, min(pillow, 0.02)))
    height = height + draws.uniform(0.0, 0.06) * pitch * rounded(edge, pillow) * glazed
    grout = _cement(canvas, ((222, 218, 210), (70, 68, 66)), 0.1, 0.88, 0.03)
    # A glaze of one colour or two, cloudy, a little different on every tile.
    colors = [swatch(draws, _GLAZES), swatch(draws, _GLAZES)]
    which = draws.table(count)
    if draws.chance(0.5):
        # Below the threshold of 0.6: no tile gets the second colour.
        which = which * draws.uniform(0, 0.3)
    tone = draws.uniform(0.02, 0.2) * (2 * draws.table(count)[identity] - 1)
    clouds = fractal(canvas, 4, 5, gain=0.6)
    base = shade(ramp((which[identity] > 0.6).float(), colors), tone + draws.uniform(0, 0.15) * clouds)
    matt = draws.choice((0.08, 0.12, 0.2, 0.45))
    spread = 0.5 * matt * (draws.table(count)[identity] - 0.5)
    finish = cover(grout, dielectric(base, matt + spread + 0.02 * clouds), glazed)
    if draws.chance(0.4):
        # A net of hairline cracks in the glaze; dirt makes it visible, its depth does not.
        crazing = cracks(canvas, 24, 0.0025, draws.uniform(0.1, 0.5)) * glazed
        finish = cover(finish, dielectric(swatch(draws, GREYS), 0.6), 0.5 * crazing)
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.01, 0.1)))


def _tile_layout(canvas: Canvas) -> tuple[Tensor, Tensor, int, float, Tensor]:
    """Return the distance to the outline, the number, the count, the pitch, and the relief of tilted tiles."""
    draws = canvas.draws
    shape = draws.choice(("square", "square", "metro", "hexagon"))
    rows = draws.choice((4, 6, 8, 10, 12))
    if shape == "hexagon":
        cells = voronoi(canvas.at, draws, rows, jitter=0, hexagons=True)
        lean = 0.015 * (2 * draws.table(2, cells.total) - 1)[:, cells.identity]
        return cells.border, cells.identity, cells.total, 1 / rows, lean[0] * cells.across + lean[1] * cells.down
    # Metro tiles are twice as wide as high and shifted by half from row to row.
    columns = rows // 2
    bond = 0.5
    if shape == "square":
        columns = rows
        bond = 0.0
    laid = courses(canvas.at, draws, rows, columns, bond=bond)
    return laid.inside(0, 0.04 / rows), laid.identity, laid.total, 1 / rows, _tilted(canvas, laid, 0.015)


def cobblestone(canvas: Canvas) -> Layers:
    """Worn stone setts in rows, domed and polished on top, with earth and sometimes moss between them.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    rows = draws.choice((6, 8, 8, 10, 12))
    columns = max(3, round(rows * draws.uniform(0.65, 1.0)))
    at = swayed(canvas, 4, 4, 0.07 / rows)
    laid = courses(at, draws, rows, columns, bond=None, jitter=0.25)
    gap = draws.uniform(0.08, 0.2) / rows
    inside = laid.inside(gap, draws.uniform(0.15, 0.3) / rows) + fractal(canvas, 3 * rows, 4) * (0.02 / rows)
    dome = rounded(inside, draws.uniform(0.2, 0.42) / rows)
    grain = fractal(canvas, 48, 3, gain=0.8)
    stone = dome * draws.uniform(0.09, 0.2) / rows + _tilted(canvas, laid, 0.08) + 0.0008 * grain
    stone = stone + 0.006 / rows * fractal(canvas, 3 * rows, 4)
    solid = smoothstep(0, 0.01, inside)
    soil = 0.012 / rows * fractal(canvas, 32, 3, gain=0.7)
    height = torch.where(inside > 0, torch.maximum(stone, soil), soil)
    # Earth in the joints, with moss on it.
    crumbs = fractal(canvas, 48, 3, gain=0.8)
    earth = shade(swatch(draws, ((92, 78, 62), (70, 62, 54), (120, 106, 86))), 0.3 * crumbs)
    moss = shade(swatch(draws, ((74, 88, 40), (58, 74, 38))), 0.35 * crumbs)
    grown = covering(fractal(canvas, 4, 5), draws.choice((0.05, 0.3, 0.7)), 0.4)
    joint = cover(dielectric(earth, 0.94), dielectric(moss, 0.97), grown)
    # Feet and wheels polish the tops of the setts.
    colors = [swatch(draws, _SETTS, 0.2), swatch(draws, _SETTS, 0.2)]
    tone = 0.45 * (2 * draws.table(laid.total)[laid.identity] - 1)
    base = shade(ramp(draws.table(laid.total)[laid.identity], colors), tone + 0.22 * grain)
    sett = dielectric(base, draws.uniform(0.75, 0.9) - draws.uniform(0.1, 0.35) * dome.square() + 0.05 * grain)
    finish = cover(joint, sett, solid)
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.03, 0.2)))
