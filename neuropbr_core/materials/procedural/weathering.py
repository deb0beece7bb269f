"""Weathering of surfaces: stains, dirt, wear, scratches, cracks and rust."""

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
    """Compute how far each point rises above its surroundings.

    Args:
        height: Height in tiles.
        radius: Size of the surroundings in tiles.

    Returns:
        Difference from the surroundings' mean height, in standard deviations; negative in hollows.
    """
    above = height - blur(height, radius)
    # A flat tile has deviation 0.
    return above / above.std().clamp_min(1e-6)


def stained(canvas: Canvas, finish: Finish, strength: float) -> Finish:
    """Darken and brighten in wide blotches, and vary roughness with them.

    Args:
        canvas: The tile.
        finish: Finish below the stains.
        strength: Standard deviation of brightness in stops; that of roughness is a twelfth of it.

    Returns:
        The stained finish.
    """
    blotches = fractal(canvas, canvas.draws.integer(2, 4), 5, gain=0.6)
    base = shade(finish.base_linear, strength * blotches)
    return Finish(base, finish.roughness - strength / 12 * blotches, finish.metallic)


def dirtied(canvas: Canvas, finish: Finish, height: Float[Tensor, "S S"], share: float) -> Finish:
    """Lay rough dirt into hollows: a film on dielectrics, but opaque on metal.

    A translucent film on metal would need values of metallic between 0 and 1, which no substance has.

    Args:
        canvas: The tile.
        finish: Finish below the dirt.
        height: Height in tiles; dirt gathers below the surroundings' mean height.
        share: Part of the tile that dirt covers, about.

    Returns:
        The dirty finish.
    """
    # Limited, because a few deep joints would otherwise take all the dirt.
    hollow = -relative_height(height, 0.03).clamp(-2.5, 2.5)
    field = (hollow + 0.8 * fractal(canvas, 4, 6)) / math.hypot(1, 0.8)
    soil = dielectric(swatch(canvas.draws, EARTHS), 0.92)
    thin = canvas.draws.uniform(0.5, 0.95)
    film = thin + (1 - thin) * finish.metallic
    # Soft edges on dielectrics, hard ones on metal, for the same reason.
    mask = mix(covering(field, share, 0.35), covering(field, share, 0.05), finish.metallic)
    return cover(finish, soil, mask * film)


def cracks(canvas: Canvas, cells: int, width: float, share: float) -> Float[Tensor, "S S"]:
    """Return the depth of thin branching cracks.

    Args:
        canvas: The tile.
        cells: Plates between cracks along a side.
        width: Width of a crack in tiles.
        share: Part of the tile in which cracks run.

    Returns:
        Depth from 0 to 1.

    Source: Worley 1996, borders of cells.
    """
    at = swayed(canvas, 2 * cells, 5, 0.12 / cells)
    plates = voronoi(at, canvas.draws, cells)
    present = covering(fractal(canvas, 2, 4), share, 0.5)
    return (1 - smoothstep(0, width / 2, plates.border)) * present


def scratches(canvas: Canvas, count: int, width: float) -> Float[Tensor, "S S"]:
    """Return the depth of straight scratches that fade at their ends.

    Args:
        canvas: The tile.
        count: Number of scratches.
        width: Width in tiles.

    Returns:
        Depth from 0 to 1.
    """
    result = canvas.zeros()
    for x, y, turn, reach, depth in canvas.draws.table(count, 5).tolist():
        angle = math.pi * turn
        half = 0.03 + 0.2 * reach * reach  # most scratches are short
        # Offsets from the scratch's middle to the nearest repetition of each sample.
        du = torch.remainder(canvas.u - x + 0.5, 1) - 0.5
        dv = torch.remainder(canvas.v - y + 0.5, 1) - 0.5
        along = (du * math.cos(angle) + dv * math.sin(angle)).abs()
        beside = (dv * math.cos(angle) - du * math.sin(angle)).abs()
        mark = (1 - beside / width).clamp_min(0) * (1 - along / half).clamp_min(0).sqrt()
        result = torch.maximum(result, mark * (0.3 + 0.7 * depth))
    return result


def speckles(canvas: Canvas, cells: int, radius: float, share: float) -> Float[Tensor, "S S"]:
    """Return round spots.

    Args:
        canvas: The tile.
        cells: Places for spots along a side.
        radius: Largest radius in tiles; up to 0.6 / cells, spots are whole.
        share: Share of the places that have a spot.

    Returns:
        Cones, 1 at the centres of spots, 0 at their rims and between them.
    """
    spots = voronoi(canvas.at, canvas.draws, cells, jitter=0.6, borders=False)
    chosen = canvas.draws.table(spots.total)
    reach = radius * (0.35 + 0.65 * canvas.draws.table(spots.total))
    # A radius of almost 0 removes a spot without dividing by 0.
    reach = torch.where(chosen < share, reach, 1e-6)[spots.identity]
    return (1 - spots.distance / reach).clamp_min(0)


def rust(canvas: Canvas) -> tuple[Finish, Float[Tensor, "S S"]]:
    """Return iron oxide, orange where fresh and nearly black where old.

    Args:
        canvas: The tile.

    Returns:
        The finish, and its grain: noise with mean 0 and standard deviation 1, to add to the relief.
    """
    grain = fractal(canvas, 24, 4, gain=0.8)
    age = fractal(canvas, 4, 6, gain=0.65) * 0.22 + grain * 0.08 + canvas.draws.uniform(0.35, 0.65)
    base = ramp(age, [linear(color) for color in _RUST])
    return dielectric(shade(base, 0.12 * grain), 0.86 + 0.04 * grain), grain


def steel(canvas: Canvas, roughness: float) -> Finish:
    """Return bare steel, iron, titanium or chromium with cloudy oxide.

    Args:
        canvas: The tile.
        roughness: Mean perceptual roughness.

    Returns:
        The finish.
    """
    clouds = fractal(canvas, 3, 6, gain=0.6)
    f0 = metal_f0(canvas.draws, ("iron", "iron", "titanium", "chromium"))
    return metal(shade(f0, 0.06 * clouds - 0.06), roughness + 0.05 * clouds)


def worn_edges(canvas: Canvas, height: Float[Tensor, "S S"], share: float) -> Float[Tensor, "S S"]:
    """Mask the parts that stick out, which are rubbed off first.

    Args:
        canvas: The tile.
        height: Height in tiles.
        share: Part of the tile that is worn, about.

    Returns:
        1 where the surface is worn, 0 elsewhere.
    """
    crest = relative_height(height, 0.02).clamp(-2.5, 2.5)
    # The blend of two independent fields has a deviation of 0.71 = hypot(0.55, 0.45).
    return covering(mix(crest, fractal(canvas, 6, 6, gain=0.6), 0.45) / 0.71, share, 0.05)
