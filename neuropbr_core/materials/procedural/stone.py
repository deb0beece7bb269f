"""Poured and polished: plaster, concrete, terrazzo, marble."""

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.cells import voronoi
from neuropbr_core.materials.procedural.courses import courses
from neuropbr_core.materials.procedural.layers import Layers, cover, dielectric
from neuropbr_core.materials.procedural.noise import fractal, gradient_noise, shift, swayed
from neuropbr_core.materials.procedural.palette import EARTHS, GREYS, Rgb, linear, shade, swatch
from neuropbr_core.materials.procedural.shaping import mix, rounded, smoothstep
from neuropbr_core.materials.procedural.weathering import cracks, dirtied, speckles, stained

_WALLS: tuple[Rgb, ...] = (
    (226, 222, 212), (214, 200, 174), (200, 168, 128), (188, 192, 190), (168, 118, 92), (206, 184, 168),
    (150, 168, 172), (184, 176, 140),
)  # fmt: skip
_CHIPS: tuple[Rgb, ...] = (
    (228, 222, 212), (186, 168, 144), (120, 108, 98), (64, 60, 60), (150, 90, 72), (104, 120, 106), (200, 180, 120),
    (92, 106, 122), (210, 160, 140),
)  # fmt: skip
# Ground and veins.
_MARBLES: tuple[tuple[Rgb, Rgb], ...] = (
    ((230, 228, 224), (128, 130, 136)),
    ((48, 48, 52), (214, 208, 196)),
    ((206, 186, 152), (150, 104, 64)),
    ((62, 92, 76), (186, 204, 184)),
    ((150, 78, 66), (224, 204, 190)),
)


def plaster(canvas: Canvas) -> Layers:
    """Wall plaster: rough-cast, troweled flat, or swept with a brush; painted, stained and cracked.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    style = draws.choice(("cast", "troweled", "swept"))
    fine = fractal(canvas, 64, 2, gain=0.9)
    if style == "cast":
        # Mortar thrown against the wall: lumps with grit on them.
        lumps = fractal(canvas, draws.integer(20, 40), 3, gain=0.6)
        relief = draws.uniform(0.001, 0.0035) * smoothstep(-1.2, 2.0, lumps) + 0.003 * speckles(canvas, 48, 0.011, 0.5)
    elif style == "troweled":
        # Lumps pressed flat: a noise cut off at a level, its plateaus rubbed in one direction.
        lumps = fractal(canvas, draws.integer(6, 14), 4, gain=0.5)
        level = draws.uniform(-0.3, 0.6)
        strokes = fractal(canvas, 24, 3, stretch=draws.choice((4.0, 0.25)))
        relief = draws.uniform(0.003, 0.006) * smoothstep(level - 1.2, level, lumps) + 0.0007 * strokes
    else:
        # Bristle marks along bends.
        bristles = fractal(canvas, 40, 3, stretch=20, gain=0.7)
        bend = draws.uniform(0.01, 0.03)
        swept = shift(bristles, fractal(canvas, 2, 1) * bend, fractal(canvas, 2, 1) * bend)
        worn = 0.6 + 0.4 * smoothstep(-1, 1, fractal(canvas, 4, 3))
        relief = draws.uniform(0.0005, 0.0014) * swept * worn
    gaps = cracks(canvas, draws.integer(2, 4), 0.006, draws.choice((0.02, 0.3)))
    height = relief + 0.0004 * fine - 0.003 * gaps + draws.uniform(0, 0.008) * fractal(canvas, 2, 3)
    base = shade(swatch(draws, _WALLS, 0.15), 0.06 * fine - 1.0 * gaps + 0.1 * fractal(canvas, 5, 5))
    finish = dielectric(base, draws.uniform(0.72, 0.92) + 0.03 * fine)
    return Layers(height, stained(canvas, finish, draws.uniform(0.02, 0.25)))


def concrete(canvas: Canvas) -> Layers:
    """Cast concrete: air holes, cloudy cement, board or panel marks with tie holes, cracks; rough to polished.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    fine = fractal(canvas, 64, 2, gain=0.9)
    clouds = fractal(canvas, 3, 7, gain=0.62)
    # The root turns the speckles' cones into round bowls, as air bubbles leave.
    holes = speckles(canvas, draws.integer(16, 40), 0.012, draws.uniform(0.1, 0.6)).sqrt()
    form, joint = _formwork(canvas)
    gaps = cracks(canvas, draws.integer(2, 4), 0.004, draws.choice((0.01, 0.15, 0.4)))
    height = form + 0.0003 * fine + draws.uniform(0.0002, 0.001) * fractal(canvas, 12, 4) - 0.004 * holes - 0.003 * gaps
    cement = swatch(draws, (*GREYS, (190, 188, 182), (96, 94, 92)), 0.15)
    base = shade(cement, draws.uniform(0.1, 0.3) * clouds + 0.07 * fine - 0.5 * holes - 0.9 * gaps - 0.35 * joint)
    matt = draws.choice((0.3, 0.55, 0.75, 0.85))
    finish = dielectric(base, matt - 0.05 * clouds + 0.04 * fine + 0.15 * holes)
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.005, 0.1)))


def _formwork(canvas: Canvas) -> tuple[Float[Tensor, "S S"], Float[Tensor, "S S"]]:
    """Return the relief that the mould leaves, and a mask of its joints."""
    draws = canvas.draws
    style = draws.choice(("none", "boards", "panels"))
    if style == "none":
        return canvas.zeros(), canvas.zeros()
    if style == "boards":
        boards = courses(canvas.at, draws, draws.integer(6, 10), 1, bond=None)
        grain = fractal(canvas, 64, 3, stretch=16, gain=0.8)
        seam = 1 - smoothstep(0, 0.006, boards.inside(0.002, 0))
        level = 0.004 * draws.table(boards.total)[boards.identity]
        return level * (1 - seam) + 0.0004 * grain + 0.002 * seam, seam
    count = draws.choice((1, 2))
    panels = courses(canvas.at, draws, count, count, bond=0.0)
    # Tie rods hold the two sides of the mould together and leave a hole near each corner of a panel.
    inset = 0.22 / count
    x = panels.across.abs() - (0.5 / count - inset)
    y = panels.down.abs() - (0.5 / count - inset)
    hole = 1 - smoothstep(0.010, 0.016, torch.hypot(x, y))
    seam = 1 - smoothstep(0, 0.008, panels.inside(0.004, 0))
    return -0.012 * hole - 0.004 * seam, torch.maximum(hole, seam)


def terrazzo(canvas: Canvas) -> Layers:
    """Marble chips of several sizes in cement, ground flat and polished.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    grain = fractal(canvas, 48, 3, gain=0.8)
    binder = shade(swatch(draws, (*_WALLS, *GREYS, (66, 64, 64)), 0.15), 0.08 * grain)
    polish = draws.uniform(0.1, 0.4)
    finish = dielectric(binder, polish + 0.1 + 0.02 * grain)
    flush = canvas.zeros()
    colors = [swatch(draws, _CHIPS, 0.2) for _ in range(draws.integer(2, 5))]
    table = torch.stack([color.view(3) for color in colors], dim=1)
    coarse = draws.integer(7, 14)
    # The largest chips come last and cut the smaller ones off.
    for count in (4 * coarse, 2 * coarse, coarse):
        cells = voronoi(swayed(canvas, count, 2, 0.05 / count), draws, count, jitter=0.8)
        present = draws.table(cells.total) < draws.uniform(0.35, 0.75)
        # A cell shrunk by a share of its own: chips of many sizes with straight edges.
        size = 0.04 + 0.2 * draws.table(cells.total)
        mask = smoothstep(-0.0008, 0.0008, cells.border - (size / count)[cells.identity]) * present[cells.identity]
        choice = (draws.table(cells.total) * len(colors)).long()
        tone = 0.35 * (2 * draws.table(cells.total) - 1)[cells.identity] + 0.1 * fractal(canvas, 24, 3)
        finish = cover(finish, dielectric(shade(table[:, choice[cells.identity]], tone), polish), mask)
        flush = torch.maximum(flush, mask)
    # Grinding leaves the hard chips slightly above the softer cement.
    height = 0.0006 * flush + 0.0003 * fractal(canvas, 8, 3) + draws.uniform(0, 0.003) * fractal(canvas, 2, 2)
    return Layers(height, stained(canvas, finish, 0.04))


def marble(canvas: Canvas) -> Layers:
    """Polished marble: wandering veins of several widths in a cloudy ground, in one slab or sawn into tiles.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.

    Source: Ebert et al. 2003, chapter 2 (marble as a function of a warped noise).
    """
    draws = canvas.draws
    pair = draws.choice(_MARBLES)
    ground = linear(pair[0])
    vein = linear(pair[1])
    clouds = fractal(canvas, 3, 6, gain=0.6)
    # Veins along the zero lines of a few noises: broad ones with soft edges, fine ones sharp. One warp for all of them,
    # because they were bent together with the stone.
    bend = draws.uniform(0.02, 0.07)
    warp_u = fractal(canvas, 3, 6, gain=0.55) * bend
    warp_v = fractal(canvas, 3, 6, gain=0.55) * bend
    veins = canvas.zeros()
    for cells, width, strength in ((2, 0.22, 0.7), (3, 0.06, 1.0), (6, 0.08, 0.5)):
        breadth = width * draws.uniform(0.5, 1.2)
        noise = shift(gradient_noise(canvas, cells, cells), warp_u, warp_v)
        line = 1 - smoothstep(0, breadth, noise.abs())
        # A second noise interrupts the veins.
        veins = torch.maximum(veins, strength * line * smoothstep(-0.8, 1.4, fractal(canvas, 2 * cells, 3)))
    veins = (veins + 0.15 * clouds.clamp_min(0)).clamp(0, 1)
    base = shade(mix(ground, vein, veins), 0.08 * clouds)
    polish = draws.choice((0.08, 0.15, 0.3, 0.5))
    height = 0.0002 * fractal(canvas, 4, 3) - 0.0006 * veins * polish
    finish = dielectric(base, polish + 0.03 * clouds + 0.08 * veins)
    if draws.chance(0.5):
        slabs = courses(canvas.at, draws, 2, 2, bond=draws.choice((0.0, 0.5)))
        inside = slabs.inside(0.006, 0.002)
        height = height + 0.004 * rounded(inside, 0.006)
        finish = cover(dielectric(swatch(draws, (*GREYS, *EARTHS)), 0.85), finish, smoothstep(-0.001, 0.001, inside))
    return Layers(height, stained(canvas, finish, 0.04))
