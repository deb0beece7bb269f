"""What time does to surfaces: stains, dirt, wear, scratches, cracks and rust."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.procedural.canvas import Canvas
from neuropbr_core.materials.procedural.cells import voronoi
from neuropbr_core.materials.procedural.layers import Finish, cover, dielectric, metal
from neuropbr_core.materials.procedural.noise import blur, fractal, swayed
from neuropbr_core.materials.procedural.palette import EARTHS, linear, metal_f0, ramp, shade, swatch
from neuropbr_core.materials.procedural.shaping import covering, mix, smoothstep

_RUST = ((58, 38, 32), (104, 56, 34), (142, 76, 38), (178, 104, 52))


def relative_height(height: Float[Tensor, "S S"], radius: float) -> Float[Tensor, "S S"]:
    """How far each point rises above its surroundings, in standard deviations; hollows are negative.

    Args:
        height: Height in tiles.
        radius: Size of the surroundings in tiles.
    """
    above = height - blur(height, radius)
    return above / above.std().clamp_min(1e-6)


def stained(canvas: Canvas, finish: Finish, strength: float) -> Finish:
    """Darken and brighten in wide blotches, and vary roughness with them.

    Args:
        canvas: The tile.
        finish: What is stained.
        strength: Deviation of brightness in stops; a twelfth of it in roughness.
    """
    blotches = fractal(canvas, canvas.draws.integer(2, 4), 5, gain=0.6)
    base = shade(finish.base_linear, strength * blotches)
    return Finish(base, finish.roughness - strength / 12 * blotches, finish.metallic)


def dirtied(canvas: Canvas, finish: Finish, height: Float[Tensor, "S S"], share: float) -> Finish:
    """Lay rough dirt into hollows: a film on other things, but opaque on metal, which stays metal or is none.

    Args:
        canvas: The tile.
        finish: What gets dirty.
        height: Its height; dirt prefers what lies below its surroundings.
        share: Part of the tile that it covers, about.
    """
    hollow = -relative_height(height, 0.03).clamp(-2.5, 2.5)
    field = (hollow + 0.8 * fractal(canvas, 4, 6)) / math.hypot(1, 0.8)
    soil = dielectric(swatch(canvas.draws, EARTHS), 0.92)
    thin = canvas.draws.uniform(0.5, 0.95)
    film = thin + (1 - thin) * finish.metallic
    return cover(finish, soil, mix(covering(field, share, 0.35), covering(field, share, 0.05), finish.metallic) * film)


def cracks(canvas: Canvas, cells: int, width: float, share: float) -> Float[Tensor, "S S"]:
    """Depth of thin branching cracks, 0 to 1.

    Args:
        canvas: The tile.
        cells: Plates between cracks along a side.
        width: Width of a crack in tiles.
        share: Part of the tile where cracks run.
    """
    at = swayed(canvas, 2 * cells, 5, 0.12 / cells)
    plates = voronoi(at, canvas.draws, cells)
    present = covering(fractal(canvas, 2, 4), share, 0.5)
    return (1 - smoothstep(0, width / 2, plates.border)) * present


def scratches(canvas: Canvas, count: int, width: float) -> Float[Tensor, "S S"]:
    """Depth of straight scratches that fade at their ends, 0 to 1.

    Args:
        canvas: The tile.
        count: Number of scratches.
        width: Width in tiles.
    """
    result = canvas.zeros()
    for x, y, turn, reach, depth in canvas.draws.table(count, 5).tolist():
        angle, half = math.pi * turn, 0.03 + 0.2 * reach * reach
        du, dv = torch.remainder(canvas.u - x + 0.5, 1) - 0.5, torch.remainder(canvas.v - y + 0.5, 1) - 0.5
        along = (du * math.cos(angle) + dv * math.sin(angle)).abs()
        beside = (dv * math.cos(angle) - du * math.sin(angle)).abs()
        mark = (1 - beside / width).clamp_min(0) * (1 - along / half).clamp_min(0).sqrt()
        result = torch.maximum(result, mark * (0.3 + 0.7 * depth))
    return result


def speckles(canvas: Canvas, cells: int, radius: float, share: float) -> Float[Tensor, "S S"]:
    """Round spots: 1 at their centres, 0 at their rims and between them.

    Args:
        canvas: The tile.
        cells: Places for spots along a side.
        radius: Largest radius in tiles; at most 0.6 / cells shows whole spots.
        share: Part of the places that have one.
    """
    spots = voronoi(canvas.at, canvas.draws, cells, jitter=0.6, borders=False)
    chosen = canvas.draws.table(spots.total)
    reach = radius * (0.35 + 0.65 * canvas.draws.table(spots.total))
    reach = torch.where(chosen < share, reach, 1e-6)[spots.identity]
    return (1 - spots.distance / reach).clamp_min(0)


def rust(canvas: Canvas) -> tuple[Finish, Float[Tensor, "S S"]]:
    """Iron oxide, orange where fresh and nearly black where old, and its grain (deviation 1)."""
    grain = fractal(canvas, 24, 4, gain=0.8)
    age = fractal(canvas, 4, 6, gain=0.65) * 0.22 + grain * 0.08 + canvas.draws.uniform(0.35, 0.65)
    base = ramp(age, [linear(color) for color in _RUST])
    return dielectric(shade(base, 0.12 * grain), 0.86 + 0.04 * grain), grain


def steel(canvas: Canvas, roughness: float) -> Finish:
    """Bare steel or iron with cloudy oxide."""
    clouds = fractal(canvas, 3, 6, gain=0.6)
    f0 = metal_f0(canvas.draws, ("iron", "iron", "titanium", "chromium"))
    return metal(shade(f0, 0.06 * clouds - 0.06), roughness + 0.05 * clouds)


def worn_edges(canvas: Canvas, height: Float[Tensor, "S S"], share: float) -> Float[Tensor, "S S"]:
    """Mask of what sticks out and is rubbed off first.

    Args:
        canvas: The tile.
        height: Height in tiles.
        share: Part of the tile, about.
    """
    crest = relative_height(height, 0.02).clamp(-2.5, 2.5)
    return covering(mix(crest, fractal(canvas, 6, 6, gain=0.6), 0.45) / 0.71, share, 0.05)
