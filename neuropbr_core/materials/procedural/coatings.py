"""Iron that has rusted, and metal whose paint comes off."""

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.layers import Layers, cover, dielectric
from neuropbr_core.materials.procedural.noise import fractal
from neuropbr_core.materials.procedural.palette import PAINTS, shade, swatch
from neuropbr_core.materials.procedural.shaping import covering, smoothstep
from neuropbr_core.materials.procedural.weathering import rust, scratches, speckles, steel


def rusty_metal(canvas: Canvas) -> Layers:
    """Steel plate, spotted with rust or covered by it; rust stands up in crusts and the metal is pitted.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    bare = steel(canvas, draws.uniform(0.25, 0.5))
    oxide, grain = rust(canvas)
    # Where rust grows, and where it has grown so thick that it forms crusts.
    spread = fractal(canvas, draws.integer(2, 5), 7, gain=draws.uniform(0.5, 0.75))
    mask = covering(spread, draws.uniform(0.15, 0.9), 0.05)
    crust = covering(spread + 0.25 * grain, 0.4, 0.5)
    pits = speckles(canvas, 32, 0.015, 0.4)
    marks = scratches(canvas, 8, 0.002)
    relief = mask * (0.0025 * crust + 0.0007 * grain) - 0.0015 * pits - 0.0006 * marks * (1 - mask)
    height = relief + 0.004 * fractal(canvas, 2, 3)
    # Scratches are younger than most of the rust and lay the metal bare again.
    finish = cover(bare, oxide, mask * (1 - 0.7 * smoothstep(0.2, 0.6, marks)))
    return Layers(height, finish)


def painted_metal(canvas: Canvas) -> Layers:
    """Painted steel: chips down to bare metal, rust around and out of them, orange peel, scratches.

    Args:
        canvas: The tile, and the random draws of the material.

    Returns:
        Height and finish on the samples of the canvas.
    """
    draws = canvas.draws
    bare = steel(canvas, draws.uniform(0.3, 0.5))
    oxide, grain = rust(canvas)
    # One field decides about chips, rust in them and rust stains around them, so that the three are nested.
    field = fractal(canvas, draws.integer(3, 6), 7, gain=draws.uniform(0.5, 0.68))
    gone = draws.choice((0.03, 0.1, 0.25, 0.45))
    marks = scratches(canvas, draws.integer(4, 14), 0.003)
    chipped = covering(field + 4 * smoothstep(0.35, 0.6, marks), gone, 0.03)
    core = covering(field, gone * draws.uniform(0.1, 0.75), 0.05)
    peel = fractal(canvas, 40, 2) * draws.uniform(0.00005, 0.0003)
    film = (1 - covering(field, gone, 0.05)) * 0.0022 + peel - 0.0006 * marks
    height = film + core * (0.0008 * grain + 0.0006) + 0.004 * fractal(canvas, 2, 2)
    chalk = fractal(canvas, 3, 6, gain=0.6)
    base = shade(swatch(draws, PAINTS, 0.2), draws.uniform(0.03, 0.15) * chalk)
    paint = dielectric(base, draws.uniform(0.2, 0.6) + 0.04 * chalk)
    finish = cover(cover(paint, bare, chipped), oxide, core)
    # Rust stains the paint around chips with a thin film: paint shows through, and bare metal stays metal.
    halo = covering(field + 0.35 * fractal(canvas, 8, 4), min(0.9, 2.2 * gone), 0.5) * draws.uniform(0.0, 0.5)
    return Layers(height, cover(finish, oxide, halo * (finish.metallic < 0.02)))
