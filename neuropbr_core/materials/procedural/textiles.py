"""Woven and knitted cloth, carbon fibre, leather."""

import math

import torch

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.cells import voronoi
from neuropbr_core.materials.procedural.layers import Layers, dielectric
from neuropbr_core.materials.procedural.noise import fractal, gradient_noise, ridged, swayed
from neuropbr_core.materials.procedural.palette import Rgb, linear, ramp, shade, swatch
from neuropbr_core.materials.procedural.shaping import mix, rounded, smoothstep
from neuropbr_core.materials.procedural.weathering import relative_height, stained
from neuropbr_core.materials.procedural.weaving import Weave, woven

_DYES: tuple[Rgb, ...] = (
    (206, 198, 182), (176, 158, 130), (58, 66, 92), (134, 46, 48), (66, 86, 72), (190, 144, 62), (92, 96, 104),
    (52, 50, 54), (150, 120, 140), (98, 132, 156), (222, 218, 210), (120, 84, 62), (186, 92, 60),
)  # fmt: skip
_HIDES: tuple[Rgb, ...] = (
    (120, 72, 44), (84, 50, 36), (46, 40, 38), (160, 104, 62), (110, 38, 36), (198, 182, 158), (60, 70, 84),
)  # fmt: skip


def fabric(canvas: Canvas) -> Layers:
    """Woven cloth: plain, basket, twill, herringbone or satin; plain, two-coloured, striped or checked.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    count = draws.choice((16, 24, 32, 40, 48))
    weave: Weave = draws.choice(("plain", "plain", "basket", "twill", "herringbone", "satin"))
    at = swayed(canvas, 4, 5, 0.16 / count, gain=0.6)
    threads = woven(at, count, weave, draws.uniform(0, 0.5))
    strands = draws.integer(2, 4)
    # A whole number of turns over the tile, so that the twist repeats.
    turns = round(count * draws.uniform(1.0, 2.0)) / count
    twist = torch.sin((threads.along * turns + 0.4 * threads.across * strands) * (2 * math.pi))
    fuzz = fractal(canvas, 96, 2, gain=0.9)
    height = draws.uniform(0.1, 0.22) / count * (threads.height + 0.07 * twist + 0.06 * fuzz)
    height = height + draws.uniform(0, 0.01) * fractal(canvas, 2, 3)
    # Threads are coloured by direction, or in stripes across one or both directions.
    colors = [swatch(draws, _DYES, 0.2), swatch(draws, _DYES, 0.2)]
    style = draws.choice(("one", "two", "stripes", "checks"))
    width = draws.choice((2, 4, count // 8, count // 4))
    striped = torch.remainder(torch.div(threads.number, width, rounding_mode="floor"), 2).float()
    which = {
        "one": torch.zeros_like(striped),
        "two": threads.warp.float(),
        "stripes": torch.where(threads.warp, striped, 0.0),
        "checks": striped,
    }[style]
    tone = 0.16 * (2 * draws.table(2, count) - 1)[threads.warp.long(), threads.number]
    dyed = shade(ramp(which, colors), tone)
    base = shade(dyed, 0.5 * threads.height.clamp(-1, 0.5) + 0.06 * twist + 0.12 * fuzz)
    sheen = draws.choice((0.45, 0.7, 0.8, 0.88))
    finish = dielectric(base, sheen - 0.08 * threads.height + 0.03 * fuzz)
    return Layers(height, stained(canvas, finish, draws.uniform(0.0, 0.12)))


def carbon(canvas: Canvas) -> Layers:
    """Carbon-fibre cloth in resin: dark tows in twill or plain weave under lacquer, sometimes with coloured aramid.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    count = draws.choice((8, 16, 16, 24))
    threads = woven(canvas.at, count, draws.choice(("plain", "twill", "twill")), 0.8)
    # Fibres run along the tow, so their pattern depends on the position across it.
    angle = threads.across * draws.uniform(6, 10) + 0.6 * gradient_noise(canvas, 64, 64)
    fibre = torch.sin(angle * math.pi) + 0.5 * fractal(canvas, 64, 2)
    # Resin fills the weave by this share, so its surface is flatter than the cloth.
    sunk = draws.uniform(0.1, 0.6)
    height = (1 - sunk) * 0.05 / count * threads.height + 0.00006 * (1 - sunk) * fibre + 0.002 * fractal(canvas, 2, 3)
    black = linear((42, 43, 46)) * draws.uniform(0.8, 1.3)
    tow = black * torch.where(threads.warp, draws.uniform(1.0, 1.5), 1.0)
    if draws.chance(0.35):
        dyed = swatch(draws, ((176, 140, 50), (60, 84, 150), (150, 50, 44)), 0.1)
        tow = torch.where(threads.warp & (torch.remainder(threads.number, 2) == 0), dyed, tow)
    base = shade(tow, 0.18 * fibre + 0.3 * threads.height.clamp(-1, 0))
    lacquer = draws.choice((0.1, 0.16, 0.3, 0.5))
    finish = dielectric(base, lacquer + 0.03 * fractal(canvas, 4, 5) + 0.03 * torch.where(threads.warp, 1.0, -1.0))
    return Layers(height, finish)


def knit(canvas: Canvas) -> Layers:
    """Stocking stitch: columns of V-shaped loops of a fuzzy yarn, plain or striped.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    columns = draws.choice((8, 10, 12, 16, 20))
    rows = round(columns * draws.uniform(1.1, 1.5) / 4) * 4
    at = swayed(canvas, 4, 4, 0.05 / columns)
    # Each stitch has two legs that slant towards each other, so a column of stitches is two columns of legs.
    x = at[0] * (2 * columns)
    y = at[1] * rows
    side = torch.remainder(x.floor(), 2) * 2 - 1
    cx = 2 * (x - x.floor()) - 1
    slanted = y + 0.75 * side * cx
    row = slanted.floor()
    # A leg is half an ellipsoid, longer than its row, so that neighbours overlap; the highest is on top.
    top = canvas.zeros()
    for step in (-1, 0, 1):
        along = slanted - row - 0.5 - step
        leg = (1 - (cx / 1.02).square() - (along / 0.66).square()).clamp_min(0).sqrt()
        top = torch.maximum(top, leg)
    plies = torch.sin((slanted * 3 - side * cx * 1.5) * (2 * math.pi)) * smoothstep(0.05, 0.5, top)
    fuzz = fractal(canvas, 64, 3, gain=0.9)
    height = draws.uniform(0.09, 0.16) / columns * (top + 0.05 * plies + 0.05 * fuzz)
    stripe = torch.div(torch.remainder(row, rows), draws.choice((2, rows // 4, rows // 2, rows)), rounding_mode="floor")
    colors = [swatch(draws, _DYES, 0.2), swatch(draws, _DYES, 0.2)]
    tone = 0.9 * (top - 0.8).clamp(-0.8, 0.1) + 0.08 * plies + 0.15 * fuzz  # little light reaches the gaps
    base = shade(ramp(torch.remainder(stripe, 2), colors), tone)
    finish = dielectric(base, draws.uniform(0.7, 0.95) + 0.03 * fuzz - 0.06 * top)
    return Layers(height, stained(canvas, finish, 0.05))


def leather(canvas: Canvas) -> Layers:
    """Grained leather: pebbled scales, finer wrinkles and creases, pores; shiny where it is rubbed.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    count = draws.integer(20, 44)
    at = swayed(canvas, count // 2, 3, 0.3 / count, gain=0.6)
    scales = voronoi(at, draws, count, jitter=0.8)
    puffed = rounded(scales.border, 0.42 / count) * (0.7 + 0.3 * draws.table(scales.total)[scales.identity])
    creases = smoothstep(0.72, 1.0, ridged(canvas, draws.integer(3, 6), 3)) * draws.uniform(0, 1)
    fine = fractal(canvas, 64, 2, gain=0.8)
    depth = draws.uniform(0.06, 0.16) / count
    height = depth * (puffed + 0.1 * fine) - 0.004 * creases + draws.uniform(0.0, 0.007) * fractal(canvas, 2, 3)
    valley = (1 - puffed).clamp(0, 1)
    # Whatever stands out is rubbed: brighter and glossier.
    worn = relative_height(height, 0.05).clamp(0, 2) * draws.uniform(0, 0.12)
    hide = swatch(draws, _HIDES, 0.25)
    base = shade(hide, -0.6 * valley - 0.3 * creases + worn + 0.05 * fine)
    gloss = draws.uniform(0.32, 0.62)
    finish = dielectric(mix(base, hide * 1.3, 0.1), gloss + 0.22 * valley - 0.4 * worn + 0.02 * fine)
    return Layers(height, stained(canvas, finish, draws.uniform(0.05, 0.25)))
