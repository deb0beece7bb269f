"""The result of a generator, layers of finish over a height field, and the maps made from it.

Slopes of heights are central differences that wrap around, so they sum to zero over the tile and have exactly no curl.
Heights and positions share a unit (tiles), which makes slopes independent of the number of samples.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.materials.vectors import unit

DIELECTRIC_SRGB = (30 / 255, 240 / 255)
"""Range of dielectric albedo, sRGB-encoded: charcoal to fresh snow. Metals may be brighter."""
ROUGHNESS = (0.05, 1.0)
"""Range of roughness."""


class Finish(NamedTuple):
    """The reflecting substance of a surface; every part can be broadcast to `(…, S, S)`.

    Attributes:
        base_linear: Base colour, linear: diffuse albedo of a dielectric, F0 of a metal.
        roughness: Perceptual roughness.
        metallic: 0 for a dielectric, 1 for a metal.
    """

    base_linear: Float[Tensor, "..."]
    roughness: Float[Tensor, "..."]
    metallic: Float[Tensor, "..."]


class Layers(NamedTuple):
    """A material before its maps are made.

    Attributes:
        height: Height in tiles `(S, S)`.
        finish: Substance of the surface.
    """

    height: Float[Tensor, "S S"]
    finish: Finish


def dielectric(base_linear: Float[Tensor, "..."], roughness: Float[Tensor, "..."] | float) -> Finish:
    """Make a finish that is no bare metal: stone, paint, rust, dirt, lacquer.

    Args:
        base_linear: Diffuse albedo, linear.
        roughness: Perceptual roughness.

    Returns:
        The finish, with metallic 0.
    """
    return Finish(base_linear, torch.as_tensor(roughness), torch.zeros(()))


def metal(f0_linear: Float[Tensor, "..."], roughness: Float[Tensor, "..."] | float) -> Finish:
    """Make a finish of bare metal.

    Args:
        f0_linear: Reflectance at normal incidence, linear.
        roughness: Perceptual roughness.

    Returns:
        The finish, with metallic 1.
    """
    return Finish(f0_linear, torch.as_tensor(roughness), torch.ones(()))


def cover(below: Finish, above: Finish, mask: Float[Tensor, "S S"]) -> Finish:
    """Lay one finish over another.

    Args:
        below: Finish where the mask is 0.
        above: Finish where the mask is 1.
        mask: Weight of `above`, in [0, 1].

    Returns:
        The blend of all three parts.
    """
    return Finish(*(low + (high - low) * mask for low, high in zip(below, above, strict=True)))


def develop(layers: Layers, factor: int) -> dict[str, Tensor]:
    """Make the four maps.

    Colour is averaged in linear light, and slopes are averaged instead of normals, so that fewer pixels show the same
    surface from farther away.

    Args:
        layers: The material on `size * factor` samples a side.
        factor: Samples along each side of a pixel.

    Returns:
        Albedo (sRGB-encoded), roughness, metallic and normal (OpenGL), each `(1, C, size, size)` in its range.
    """
    side = layers.height.shape[-1]
    finish = layers.finish
    metallic = finish.metallic.expand(1, side, side).clamp(0, 1)
    low, high = srgb_to_linear(torch.tensor(DIELECTRIC_SRGB)).tolist()
    base = finish.base_linear.expand(3, side, side).clamp_min(low)
    # The upper limit rises with metallic: metals reflect more than fresh snow.
    base = torch.minimum(base, high + (1 - high) * metallic)
    roughness = finish.roughness.expand(1, side, side).clamp(*ROUGHNESS)
    slope = slopes(layers.height)
    if factor > 1:
        base = F.avg_pool2d(base[None], factor)[0]
        roughness = F.avg_pool2d(roughness[None], factor)[0]
        metallic = F.avg_pool2d(metallic[None], factor)[0]
        slope = F.avg_pool2d(slope[None], factor)[0]
    albedo = linear_to_srgb(base).clamp(0, 1)
    return {
        "albedo": albedo[None],
        "roughness": roughness[None],
        "metallic": metallic[None],
        "normal": normals(slope)[None],
    }


def slopes(height: Float[Tensor, "S S"]) -> Float[Tensor, "2 S S"]:
    """Compute the slopes of a height field along world x (right) and y (up).

    Args:
        height: Height over the tile, in tiles.

    Returns:
        ∂h/∂x and ∂h/∂y. v points down, so ∂h/∂y = -∂h/∂v.

    Source: central differences, (h(x + d) - h(x - d)) / 2d, of second order (Fornberg 1988, table 1).
    """
    half = height.shape[-1] / 2
    right = torch.roll(height, -1, 1) - torch.roll(height, 1, 1)
    up = torch.roll(height, 1, 0) - torch.roll(height, -1, 0)
    return torch.stack((right, up)) * half


def normals(slope: Float[Tensor, "2 S S"]) -> Float[Tensor, "3 S S"]:
    """Compute unit normals, OpenGL: normalize((-∂h/∂x, -∂h/∂y, 1)).

    Args:
        slope: Slopes ∂h/∂x and ∂h/∂y.

    Returns:
        Unit normals in the world.

    Source: the normal of a graph z = h(x, y); Blinn 1978, "Simulation of Wrinkled Surfaces", for a flat base.
    """
    up = torch.ones_like(slope[:1])
    return unit(torch.cat((-slope, up)))
