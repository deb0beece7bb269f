"""A material's maps made ready to be looked up at any point of the endless tiling."""

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


class Surface(NamedTuple):
    """A tile of material.

    Attributes:
        texels: `(1, 8, H + 2, W + 2)`: linear base colour, roughness, metallic, normal; one texel of the neighbouring
            tile around it, so that interpolation crosses seams.
    """

    texels: Tensor


class Point(NamedTuple):
    """What a surface is at the points looked up.

    Attributes:
        reflectance: How it reflects.
        normal: Unit normals `(3, H, W)` in the world.
    """

    reflectance: Reflectance
    normal: Tensor


def build_surface(maps: Mapping[str, Tensor], samples: int) -> Surface:
    """Gather the maps of one material.

    Albedo is decoded from sRGB before anything is averaged. Maps with at least twice the texels that will be looked up
    are averaged down by a whole factor first, which keeps distant detail from flickering between neighbouring samples.

    Args:
        maps: Albedo, roughness, metallic and normal, each `(1, C, H, W)` in its range, one size for all.
        samples: How many points will be looked up along the side of a view.

    Raises:
        DataError: A map is missing, holds several materials, or differs in size.
    """
    _check(maps)
    base_linear = srgb_to_linear(maps["albedo"])
    stacked = torch.cat((base_linear, maps["roughness"], maps["metallic"], maps["normal"]), dim=1)
    factor = max(1, min(stacked.shape[-2:]) // samples)
    height, width = (side // factor for side in stacked.shape[-2:])
    texels = F.interpolate(stacked.float(), size=(height, width), mode="area")
    return Surface(F.pad(texels, (1, 1, 1, 1), mode="circular"))


def look_up(surface: Surface, u: Float[Tensor, "H W"], v: Float[Tensor, "H W"]) -> Point:
    """Interpolate the material bilinearly at texture coordinates, which wrap; normals are made unit again."""
    height, width = (side - 2 for side in surface.texels.shape[-2:])
    column = (torch.remainder(u, 1) * width + 1) * (2 / (width + 2)) - 1
    row = (torch.remainder(v, 1) * height + 1) * (2 / (height + 2)) - 1
    grid = torch.stack((column, row), dim=-1)[None]
    values = F.grid_sample(surface.texels, grid, padding_mode="border", align_corners=False)[0]
    return Point(reflectance(values[:3], values[3:4], values[4:5]), F.normalize(values[5:], dim=0))


def _check(maps: Mapping[str, Tensor]) -> None:
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
