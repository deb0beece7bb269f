"""Embossed and assembled metal: tread plate, riveted panels."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.courses import courses
from neuropbr_core.materials.procedural.layers import Layers, cover, dielectric, metal
from neuropbr_core.materials.procedural.noise import fractal, streaks
from neuropbr_core.materials.procedural.palette import PAINTS, metal_f0, shade, swatch
from neuropbr_core.materials.procedural.shaping import covering, rounded, smoothstep
from neuropbr_core.materials.procedural.weathering import dirtied, rust, scratches, stained, steel, worn_edges


def checker_plate(canvas: Canvas) -> Layers:
    """Tread plate: lens-shaped lugs at right angles to their neighbours, rubbed bright on top, dirt or rust below.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    count = draws.choice((6, 8, 10, 12))
    inside = _lugs(canvas, count)
    lug = rounded(inside, draws.uniform(0.05, 0.09) / count)
    height = lug * draws.uniform(0.045, 0.08) / count + 0.0004 * fractal(canvas, 24, 3) + 0.003 * fractal(canvas, 2, 3)
    marks = scratches(canvas, draws.integer(4, 12), 0.002)
    height = height - 0.0006 * marks
    clouds = fractal(canvas, 6, 6, gain=0.7)
    f0 = metal_f0(draws, ("aluminium", "iron", "chromium", "nickel"), 0.25)
    rubbed = smoothstep(0.5, 1.0, lug)
    # Shoes polish the lugs.
    roughness = draws.uniform(0.3, 0.48) - draws.uniform(0.05, 0.18) * rubbed + 0.04 * clouds + 0.1 * marks
    finish = stained(canvas, metal(shade(f0, 0.06 * clouds), roughness), 0.05)
    if draws.chance(0.35):
        oxide, grain = rust(canvas)
        mask = covering(clouds - 0.8 * rubbed, draws.uniform(0.1, 0.5), 0.05)
        finish = cover(finish, oxide, mask)
        height = height + 0.0006 * mask * grain
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.01, 0.2)))


def _lugs(canvas: Canvas, count: int) -> Float[Tensor, "S S"]:
    """Compute the signed distance to lens-shaped lugs, positive inside; one in each cell of a chequer, turned by ±45°.

    A lens is the overlap of two equal discs whose centres are on either side of its long axis.

    Source: the radius of a circle from half its chord l and its sagitta w, (l² + w²) / 2w.
    """
    draws = canvas.draws
    x = canvas.u * count
    y = canvas.v * count
    turned = torch.remainder(x.floor() + y.floor(), 2) * 2 - 1  # 1 or -1, as on a chess board
    cx = x - x.floor() - 0.5
    cy = y - y.floor() - 0.5
    along = (cx + turned * cy) * math.sqrt(0.5)
    beside = (cy - turned * cx).abs() * math.sqrt(0.5)
    half_length = draws.uniform(0.42, 0.52)
    half_width = draws.uniform(0.1, 0.16)
    radius = (half_length**2 + half_width**2) / (2 * half_width)
    # By symmetry, the distance to the disc on the other side decides.
    return (radius - torch.hypot(along, beside + radius - half_width)) / count


def metal_panel(canvas: Canvas) -> Layers:
    """Panels of sheet metal with raised or sunken fields and rivets; bare, or painted with rubbed edges.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    rows = draws.integer(2, 4)
    columns = draws.integer(2, 4)
    panels = courses(canvas.at, draws, rows, columns, bond=draws.choice((0.0, 0.0, None)), jitter=0.25)
    seam = panels.inside(0.008, 0.01)
    field = panels.inside(draws.uniform(0.08, 0.14), 0.03)
    # Rivets in the corners of every panel, as domes of height 1.
    radius = draws.uniform(0.006, 0.01)
    x = panels.across.abs() - (panels.half_width - 0.028)
    y = panels.down.abs() - (panels.half_height - 0.028)
    rivets = torch.sqrt((1 - (x * x + y * y) / radius**2).clamp_min(0))
    raised = draws.choice((-0.006, 0.006, 0.01)) * (draws.table(panels.total) < 0.8)[panels.identity]
    height = 0.006 * rounded(seam, 0.007) + raised * smoothstep(0, 0.018, field)
    height = height + 0.005 * rivets + 0.003 * fractal(canvas, 3, 3)
    if draws.chance(0.3):
        finish = steel(canvas, draws.uniform(0.3, 0.5))
    else:
        # Each panel is rolled from another coil, so panels differ in tone and grooves.
        grooves = streaks(canvas, draws.chance(0.5))
        tone = (2 * draws.table(panels.total) - 1)[panels.identity]
        f0 = metal_f0(draws, ("aluminium", "titanium", "chromium", "nickel", "iron"), 0.2)
        base = shade(f0, 0.04 * grooves + 0.08 * tone)
        finish = metal(base, draws.uniform(0.22, 0.42) + 0.04 * grooves + 0.05 * tone)
    if draws.chance(0.5):
        paint = dielectric(swatch(draws, PAINTS, 0.2), draws.uniform(0.25, 0.55))
        finish = cover(stained(canvas, paint, 0.1), finish, worn_edges(canvas, height, draws.uniform(0.01, 0.1)))
    if draws.chance(0.4):
        oxide, _ = rust(canvas)
        # Rust starts at the seams, where water stays.
        around = smoothstep(0.02, -0.004, seam) + 0.5 * fractal(canvas, 6, 6, gain=0.65)
        finish = cover(finish, oxide, covering(around, draws.uniform(0.02, 0.15), 0.05))
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.005, 0.06)))
