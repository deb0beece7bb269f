"""Maps seen under one lamp from one place: what two sets of maps are compared by where only appearance counts.

The maps are one tile in the plane z = 0, its side 1, its centre the origin: x to the right, y up in the picture.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.ggx import brdf, dot, reflectance

Position = tuple[float, float, float]


class Relighting(NamedTuple):
    """A lamp and an eye, in tile sides; both above the plane.

    Attributes:
        lamp: A point that shines in all directions alike.
        eye: Where it is seen from.
    """

    lamp: Position
    eye: Position


def relight(maps: Mapping[str, Tensor], relighting: Relighting) -> Float[Tensor, "B 3 H W"]:
    """Shade every texel of a tile.

    Args:
        maps: Albedo (sRGB-encoded), roughness, metallic and normal, each `(B, C, H, W)` in its range.
        relighting: Lamp and eye.

    Returns:
        Linear radiance, exposed for a card that lies at the tile's centre: a diffuse texel there shows about its
        albedo. Highlights go far above 1. The tile lies flat: no texel shades another.
    """
    albedo = maps["albedo"].float()
    lamp, eye = (torch.tensor(position, device=albedo.device) for position in relighting)
    points = _texel_centres(albedo.shape[-2], albedo.shape[-1], albedo.device)
    to_lamp, to_eye = lamp.view(3, 1, 1) - points, eye.view(3, 1, 1) - points
    light, normal = F.normalize(to_lamp, dim=-3), maps["normal"].float()
    material = reflectance(srgb_to_linear(albedo), maps["roughness"].float(), maps["metallic"].float())
    cosine = dot(normal, light).clamp_min(0)
    falloff = _card_exposure(relighting.lamp) / dot(to_lamp, to_lamp)
    return brdf(material, normal, F.normalize(to_eye, dim=-3), light) * cosine * falloff


def heldout_relightings(count: int = 8) -> tuple[Relighting, ...]:
    """Lamps and eyes that no capture has, where the flash is at the eye; always the same.

    Lamps stand around the tile by the golden angle, 25° to 65° above it, two tile sides away. Every other eye looks
    straight down, the rest along the lamp's mirror reflection, where a highlight shows how rough the surface is.

    Args:
        count: How many.
    """
    golden = math.pi * (3 - math.sqrt(5))
    found = []
    for index in range(count):
        tilt = math.radians(65 - 40 * (index % 4) / 3)
        azimuth = index * golden
        eye = _on_sphere(tilt, azimuth + math.pi) if index % 2 else _on_sphere(0, 0)
        found.append(Relighting(_on_sphere(tilt, azimuth), eye))
    return tuple(found)


def _on_sphere(tilt: float, azimuth: float, distance: float = 2.0) -> Position:
    """A point `distance` from the origin, `tilt` from the vertical."""
    side = distance * math.sin(tilt)
    return side * math.cos(azimuth), side * math.sin(azimuth), distance * math.cos(tilt)


def _card_exposure(lamp: Position) -> float:
    """Makes the radiance of a white diffuse card at the origin 1: π d² / cos θ."""
    squared = sum(value * value for value in lamp)
    return math.pi * squared * math.sqrt(squared) / lamp[2]


def _texel_centres(height: int, width: int, device: torch.device) -> Float[Tensor, "3 H W"]:
    x = (torch.arange(width, device=device) + 0.5) / width - 0.5
    y = 0.5 - (torch.arange(height, device=device) + 0.5) / height
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((columns, rows, torch.zeros_like(rows)))
