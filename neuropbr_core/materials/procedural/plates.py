"""Embossed and assembled metal: tread plate, riveted panels."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.courses import Courses, courses
from neuropbr_core.materials.procedural.layers import Finish, Layers, cover, dielectric, metal
from neuropbr_core.materials.procedural.noise import fractal
from neuropbr_core.materials.procedural.palette import PAINTS, metal_f0, shade, swatch
from neuropbr_core.materials.procedural.shaping import covering, rounded, smoothstep
from neuropbr_core.materials.procedural.sheets import streaks
from neuropbr_core.materials.procedural.weathering import dirtied, rust, scratches, stained, steel, worn_edges


def checker_plate(canvas: Canvas) -> Layers:
    """Tread plate: lens-shaped lugs at right angles to their neighbours, rubbed bright on top, dirt or rust below."""
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
    roughness = draws.uniform(0.3, 0.48) - draws.uniform(0.05, 0.18) * rubbed + 0.04 * clouds + 0.1 * marks
    finish = stained(canvas, metal(shade(f0, 0.06 * clouds), roughness), 0.05)
    if draws.chance(0.35):
        oxide, grain = rust(canvas)
        mask = covering(clouds - 0.8 * rubbed, draws.uniform(0.1, 0.5), 0.05)
        finish, height = cover(finish, oxide, mask), height + 0.0006 * mask * grain
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.01, 0.2)))


def _lugs(canvas: Canvas, count: int) -> Float[Tensor, "S S"]:
    """Signed distance to lens-shaped lugs, positive inside; one in each cell of a chequer, turned by ±45°.

    A lens is the overlap of two discs of radius R whose centres lie d to either side of its long axis.
    """
    draws = canvas.draws
    x, y = canvas.u * count, canvas.v * count
    turned = torch.remainder(x.floor() + y.floor(), 2) * 2 - 1
    cx, cy = x - x.floor() - 0.5, y - y.floor() - 0.5
    along = (cx + turned * cy) * math.sqrt(0.5)
    beside = (cy - turned * cx).abs() * math.sqrt(0.5)
    half_length, half_width = draws.uniform(0.42, 0.52), draws.uniform(0.1, 0.16)
    radius = (half_length**2 + half_width**2) / (2 * half_width)
    return (radius - torch.hypot(along, beside + radius - half_width)) / count


def metal_panel(canvas: Canvas) -> Layers:
    """Panels of sheet metal with raised or sunken fields and rivets; bare, or painted with rubbed edges."""
    draws = canvas.draws
    rows, columns = draws.integer(2, 4), draws.integer(2, 4)
    panels = courses(canvas.at, draws, rows, columns, bond=draws.choice((0.0, 0.0, None)), jitter=0.25)
    seam = panels.inside(0.008, 0.01)
    field = panels.inside(draws.uniform(0.08, 0.14), 0.03)
    rivets = _rivets(panels, 0.028, draws.uniform(0.006, 0.01))
    raised = draws.choice((-0.006, 0.006, 0.01)) * (draws.table(panels.total) < 0.8)[panels.identity]
    height = 0.006 * rounded(seam, 0.007) + raised * smoothstep(0, 0.018, field)
    height = height + 0.005 * rivets + 0.003 * fractal(canvas, 3, 3)
    finish = _skin(canvas, panels)
    if draws.chance(0.5):
        paint = dielectric(swatch(draws, PAINTS, 0.2), draws.uniform(0.25, 0.55))
        finish = cover(stained(canvas, paint, 0.1), finish, worn_edges(canvas, height, draws.uniform(0.01, 0.1)))
    if draws.chance(0.4):
        oxide, _ = rust(canvas)
        around = smoothstep(0.02, -0.004, seam) + 0.5 * fractal(canvas, 6, 6, gain=0.65)
        finish = cover(finish, oxide, covering(around, draws.uniform(0.02, 0.15), 0.05))
    return Layers(height, dirtied(canvas, finish, height, draws.uniform(0.005, 0.06)))


def _rivets(panels: Courses, inset: float, radius: float) -> Float[Tensor, "S S"]:
    """Domes in the corners of every panel, 0 to 1."""
    x = panels.across.abs() - (panels.half_width - inset)
    y = panels.down.abs() - (panels.half_height - inset)
    return torch.sqrt((1 - (x * x + y * y) / radius**2).clamp_min(0))


def _skin(canvas: Canvas, panels: Courses) -> Finish:
    """Bare sheet, each panel rolled from another coil."""
    draws = canvas.draws
    if draws.chance(0.3):
        return steel(canvas, draws.uniform(0.3, 0.5))
    grooves = streaks(canvas, draws.chance(0.5))
    tone = (2 * draws.table(panels.total) - 1)[panels.identity]
    f0 = metal_f0(draws, ("aluminium", "titanium", "chromium", "nickel", "iron"), 0.2)
    return metal(shade(f0, 0.04 * grooves + 0.08 * tone), draws.uniform(0.22, 0.42) + 0.04 * grooves + 0.05 * tone)
