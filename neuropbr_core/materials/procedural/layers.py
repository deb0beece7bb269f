"""What generators return, and the maps that follow from it."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.materials.procedural.height import normals, slopes

DIELECTRIC_SRGB = (30 / 255, 240 / 255)
"""Range of dielectric albedo, sRGB-encoded: charcoal to fresh snow. Metals may be brighter."""
ROUGHNESS = (0.05, 1.0)
"""Range of roughness."""


class Finish(NamedTuple):
    """What a surface is made of; every part is broadcastable to `(…, S, S)`.

    Attributes:
        base_linear: Base colour: diffuse albedo of a dielectric, F0 of a metal.
        roughness: Perceptual roughness.
        metallic: 0 dielectric, 1 metal.
    """

    base_linear: Float[Tensor, "..."]
    roughness: Float[Tensor, "..."]
    metallic: Float[Tensor, "..."]


class Layers(NamedTuple):
    """A material before its maps are made.

    Attributes:
        height: Height in tiles `(S, S)`.
        finish: What it is made of.
    """

    height: Float[Tensor, "S S"]
    finish: Finish


def dielectric(base_linear: Float[Tensor, "..."], roughness: Float[Tensor, "..."] | float) -> Finish:
    """Everything that is no bare metal: stone, paint, rust, dirt, lacquer."""
    return Finish(base_linear, torch.as_tensor(roughness), torch.zeros(()))


def metal(f0_linear: Float[Tensor, "..."], roughness: Float[Tensor, "..."] | float) -> Finish:
    """Bare metal; its base colour is its reflectance at normal incidence."""
    return Finish(f0_linear, torch.as_tensor(roughness), torch.ones(()))


def cover(below: Finish, above: Finish, mask: Float[Tensor, "S S"]) -> Finish:
    """Lay one finish over another where a mask is 1."""
    return Finish(*(low + (high - low) * mask for low, high in zip(below, above, strict=True)))


def develop(layers: Layers, factor: int) -> dict[str, Tensor]:
    """Make the four maps.

    Colour is averaged in linear light, and slopes instead of normals, so that fewer pixels show the same surface from
    farther away.

    Args:
        layers: The material on `size * factor` samples a side.
        factor: Samples along each side of a pixel.

    Returns:
        Albedo, roughness, metallic and normal, each `(1, C, size, size)` in its range.
    """
    side = layers.height.shape[-1]
    finish = layers.finish
    metallic = _whole(finish.metallic, 1, side).clamp(0, 1)
    low, high = srgb_to_linear(torch.tensor(DIELECTRIC_SRGB)).tolist()
    base = _whole(finish.base_linear, 3, side).clamp_min(low)
    base = torch.minimum(base, high + (1 - high) * metallic)
    roughness = _whole(finish.roughness, 1, side).clamp(*ROUGHNESS)
    pooled = [_average(field, factor) for field in (base, roughness, metallic, slopes(layers.height))]
    maps = (linear_to_srgb(pooled[0]).clamp(0, 1), pooled[1], pooled[2], normals(pooled[3]))
    return {
        name: values[None] for name, values in zip(("albedo", "roughness", "metallic", "normal"), maps, strict=True)
    }


def _whole(field: Float[Tensor, "..."], channels: int, side: int) -> Float[Tensor, "C S S"]:
    return field.expand(channels, side, side)


def _average(field: Float[Tensor, "C S S"], factor: int) -> Float[Tensor, "C s s"]:
    return F.avg_pool2d(field[None], factor)[0] if factor > 1 else field
