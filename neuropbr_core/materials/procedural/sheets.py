"""Sheets of bare metal: brushed, hammered, corrugated."""

import math

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.cells import voronoi
from neuropbr_core.materials.procedural.layers import Layers, cover, metal
from neuropbr_core.materials.procedural.noise import fractal, streaks, swayed
from neuropbr_core.materials.procedural.palette import METAL_F0, metal_f0, shade
from neuropbr_core.materials.procedural.shaping import covering, rounded, smoothstep
from neuropbr_core.materials.procedural.weathering import dirtied, rust, scratches, stained


def brushed_metal(canvas: Canvas) -> Layers:
    """Brushed sheet of any metal: streaks in roughness and relief, smudges, scratches.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    grooves = streaks(canvas, draws.chance(0.5))
    roughness = draws.uniform(0.16, 0.42)
    smudges = covering(fractal(canvas, 3, 5, gain=0.6), draws.uniform(0.05, 0.5), 0.8)
    marks = scratches(canvas, draws.integer(0, 10), 0.0025)
    waves = fractal(canvas, 3, 2) * draws.uniform(0.0, 0.004)
    height = waves + draws.log_uniform(0.00008, 0.0004) * grooves - 0.0008 * marks
    f0 = metal_f0(draws, tuple(METAL_F0), 0.2)
    base = shade(f0, 0.05 * grooves - 0.08 * smudges)
    finish = metal(base, roughness + 0.05 * grooves + 0.14 * smudges + 0.2 * marks)
    return Layers(height, stained(canvas, finish, draws.uniform(0.0, 0.08)))


def hammered_metal(canvas: Canvas) -> Layers:
    """Beaten metal: overlapping shallow dents, polished or darkened in the hollows.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    count = draws.integer(7, 16)
    at = swayed(canvas, 4, 3, 0.1 / count)
    dents = voronoi(at, draws, count, borders=False)
    # A paraboloid around each point: where two meet, they form the ridge between two hammer blows.
    bowl = (dents.distance * count).square()
    depth = (0.6 + 0.8 * draws.table(dents.total))[dents.identity]
    height = draws.uniform(0.16, 0.32) / count * bowl * depth.clamp(0.6, 1.0)
    height = height + 0.0002 * fractal(canvas, 16, 3)
    f0 = metal_f0(draws, ("copper", "brass", "silver", "iron", "aluminium", "gold"), 0.25)
    grain = fractal(canvas, 8, 5, gain=0.7)
    finish = metal(shade(f0, 0.06 * grain), draws.uniform(0.14, 0.38) + 0.04 * grain + 0.06 * bowl.clamp_max(1))
    finish = stained(canvas, finish, draws.uniform(0.0, 0.15))
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.002, 0.05)))


def corrugated(canvas: Canvas) -> Layers:
    """Corrugated sheet: waves or folded ribs, zinc spangle, rust that runs down the hollows.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    waves = draws.integer(5, 12)
    swell = canvas.spread((canvas.u * (2 * math.pi * waves)).sin())
    if draws.chance(0.5):
        swell = smoothstep(-0.55, 0.55, swell) * 2 - 1
    height = swell * (draws.uniform(0.06, 0.12) / waves) + 0.003 * fractal(canvas, 3, 3)
    # Once a tile, the sheet above overlaps the sheet below and ends in a step down.
    below = (canvas.v - draws.uniform(0, 1)).remainder(1)
    lap = canvas.spread((1 - below) * rounded(below, 0.008))
    height = height + 0.006 * lap
    # Zinc crystals, each reflecting a little differently.
    count = draws.integer(14, 30)
    at = swayed(canvas, 32, 3, 0.12 / count)
    spangle = voronoi(at, draws, count, jitter=0.8, borders=False)
    tone = (2 * draws.table(spangle.total) - 1)[spangle.identity]
    strength = draws.uniform(0.02, 0.2)
    f0 = metal_f0(draws, ("zinc", "aluminium", "iron"), 0.25)
    finish = metal(shade(f0, strength * tone - 0.1), draws.uniform(0.28, 0.5) + 0.3 * strength * tone)
    rusted, grain = rust(canvas)
    # Stretched along the slope, because water carries rust down; hollows get more of it.
    runs = fractal(canvas, 3 * waves, 4, stretch=1 / 6, gain=0.6) * 0.8 + 0.5 * fractal(canvas, 4, 6) - 0.25 * swell
    mask = covering(runs, draws.choice((0.02, 0.1, 0.3, 0.6)), 0.05)
    return Layers(height + 0.0004 * mask * grain, cover(stained(canvas, finish, 0.1), rusted, mask))
