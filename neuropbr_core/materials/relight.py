"""Relighting: maps shaded under one lamp for one eye, to compare two sets of maps by their appearance.

The maps are one tile in the plane z = 0 with side 1 and its centre at the origin; x points to the right and y up in the
picture.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.ggx import brdf, dot, reflectance
from neuropbr_core.materials.vectors import unit

Position = tuple[float, float, float]


class Relighting(NamedTuple):
    """A lamp and an eye, both above the plane.

    Attributes:
        lamp: Position (x, y, z) in tile sides of a point that shines in all directions alike.
        eye: Position (x, y, z) in tile sides of the observer.
    """

    lamp: Position
    eye: Position


def relight(maps: Mapping[str, Tensor], relighting: Relighting) -> Float[Tensor, "B 3 H W"]:
    """Shade every texel of a tile.

    Args:
        maps: Albedo (sRGB-encoded), roughness, metallic and normal, each `(B, C, H, W)` in its range.
        relighting: Lamp and eye.

    Returns:
        Linear radiance, exposed so that a white diffuse card at the tile's centre has radiance 1: a diffuse texel there
        shows about its albedo. Highlights go far above 1. No texel casts a shadow on another.

    Source: the BRDF of `ggx` and the photometric distance law, E = I · cos θ / d².
    """
    albedo = maps["albedo"].float()
    device = albedo.device
    height, width = albedo.shape[-2:]
    x = (torch.arange(width, device=device) + 0.5) / width - 0.5
    y = 0.5 - (torch.arange(height, device=device) + 0.5) / height
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    points = torch.stack((columns, rows, torch.zeros_like(rows)))
    to_lamp = torch.tensor(relighting.lamp, device=device).view(3, 1, 1) - points
    to_eye = torch.tensor(relighting.eye, device=device).view(3, 1, 1) - points
    light = unit(to_lamp)
    normal = maps["normal"].float()
    material = reflectance(srgb_to_linear(albedo), maps["roughness"].float(), maps["metallic"].float())
    cosine = dot(normal, light).clamp_min(0)
    # The lamp's intensity π d² / cos θ makes the radiance of the white card at the origin 1; cos θ = z / d.
    squared = sum(value * value for value in relighting.lamp)
    intensity = math.pi * squared * math.sqrt(squared) / relighting.lamp[2]
    falloff = intensity / dot(to_lamp, to_lamp)
    return brdf(material, normal, unit(to_eye), light) * cosine * falloff


def heldout_relightings(count: int = 8) -> tuple[Relighting, ...]:
    """Return lamps and eyes that no capture contains, because a capture's flash is at the eye.

    Lamps are spread around the tile by the golden angle, 25° to 65° above it, two tile sides away. Every other eye
    looks straight down. The others look along the lamp's mirror reflection, where a highlight shows the roughness.

    Args:
        count: Number of pairs.

    Returns:
        The pairs, the same in every call.
    """
    # Multiples of the golden angle never repeat, and any number of them is spread about evenly.
    golden = math.pi * (3 - math.sqrt(5))
    relightings = []
    for index in range(count):
        tilt = math.radians(65 - 40 * (index % 4) / 3)
        azimuth = index * golden
        eye = _on_sphere(0, 0)
        if index % 2:
            eye = _on_sphere(tilt, azimuth + math.pi)
        relightings.append(Relighting(_on_sphere(tilt, azimuth), eye))
    return tuple(relightings)


def _on_sphere(tilt: float, azimuth: float, distance: float = 2.0) -> Position:
    """Return the point at `distance` from the origin and `tilt` from the vertical."""
    side = distance * math.sin(tilt)
    return side * math.cos(azimuth), side * math.sin(azimuth), distance * math.cos(tilt)
