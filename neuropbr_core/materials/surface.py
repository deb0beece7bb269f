"""A material's maps, prepared for look-ups at any point of the endless tiling."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.ggx import Reflectance, reflectance
from neuropbr_core.materials.vectors import unit


class Surface(NamedTuple):
    """A tile of material.

    Attributes:
        texels: `(1, 8, H + 2, W + 2)`: linear base colour, roughness, metallic, normal. One texel of the neighbouring
            tiles surrounds it, so that interpolation crosses seams.
    """

    texels: Tensor


class Point(NamedTuple):
    """Reflectance and normals of a surface at the points looked up.

    Attributes:
        reflectance: Parameters of the reflectance model.
        normal: Unit normals `(3, H, W)` in the world.
    """

    reflectance: Reflectance
    normal: Tensor


def build_surface(maps: Mapping[str, Tensor], samples: int) -> Surface:
    """Combine the maps of one material.

    Maps with at least twice as many texels along a side as samples are averaged down by a whole factor first, which
    keeps distant detail from flickering between neighbouring samples.

    Args:
        maps: Albedo (sRGB-encoded), roughness, metallic and normal, each `(1, C, H, W)` in its range, all of one size.
        samples: Number of points along the side of a view that will be looked up.

    Returns:
        The surface, float32 on the device of the maps.

    Raises:
        DataError: A map is missing, holds several materials, or differs in size.
    """
    missing = [name for name in MAPS if name not in maps]
    if missing:
        raise DataError(f"rendering needs the maps {', '.join(MAPS)}; missing: {', '.join(missing)}")
    size = tuple(maps["albedo"].shape[-2:])
    for name, spec in MAPS.items():
        if tuple(maps[name].shape) != (1, spec.channels, *size):
            raise DataError(
                f"{name}: found shape {tuple(maps[name].shape)}; one material of albedo's size "
                f"has {(1, spec.channels, *size)}"
            )
    # Decoded before anything is averaged: averages of encoded values are too dark.
    base_linear = srgb_to_linear(maps["albedo"])
    stacked = torch.cat((base_linear, maps["roughness"], maps["metallic"], maps["normal"]), dim=1)
    height, width = stacked.shape[-2:]
    factor = max(1, min(height, width) // samples)
    height //= factor
    width //= factor
    texels = F.interpolate(stacked.float(), size=(height, width), mode="area")
    return Surface(F.pad(texels, (1, 1, 1, 1), mode="circular"))


def look_up(surface: Surface, u: Float[Tensor, "H W"], v: Float[Tensor, "H W"]) -> Point:
    """Interpolate the material bilinearly.

    Args:
        surface: The material.
        u: Texture coordinates to the right; they wrap around at 0 and 1.
        v: Texture coordinates down; they wrap around at 0 and 1.

    Returns:
        Reflectance and unit normals, because interpolated normals are shorter than 1.
    """
    height = surface.texels.shape[-2] - 2
    width = surface.texels.shape[-1] - 2
    # In texels, shifted by the one that surrounds the tile; then in [-1, 1] over tile and surroundings.
    column = (torch.remainder(u, 1) * width + 1) * (2 / (width + 2)) - 1
    row = (torch.remainder(v, 1) * height + 1) * (2 / (height + 2)) - 1
    grid = torch.stack((column, row), dim=-1)[None]
    values = F.grid_sample(surface.texels, grid, padding_mode="border", align_corners=False)[0]
    return Point(reflectance(values[:3], values[3:4], values[4:5]), unit(values[5:]))
