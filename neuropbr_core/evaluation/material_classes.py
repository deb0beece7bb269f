"""What a material is, by its true maps: metal of which roughness, flat or bumpy, a bright smooth non-metal.

Errors differ more between these classes than between methods, so that a mean over all materials hides what a model can
and cannot do.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.maps import ALBEDO, MAPS, METALLIC, NORMAL, ROUGHNESS
from neuropbr_core.materials.color import luminance

MIRROR_METAL = "mirror-like metal"
BRUSHED_METAL = "brushed metal"
ROUGH_METAL = "rough metal"
NON_METAL = "non-metal"
BRIGHT_SMOOTH = "bright smooth non-metal"
FLAT = "flat"
BUMPY = "bumpy"

CLASSES = (MIRROR_METAL, BRUSHED_METAL, ROUGH_METAL, NON_METAL, BRIGHT_SMOOTH, FLAT, BUMPY)
"""Every class, in the order of tables. A material belongs to several."""

_MIRROR = 0.15
_BRUSHED = 0.35
"""Mean roughness below which a metal is mirror-like, and brushed."""
_SMOOTH = 0.55
_BRIGHT = 0.65
"""Largest mean roughness and least mean luma of bright smooth non-metals: the limits of `satin` and `bright` in live
captures."""
_FLAT_SLOPE = 3.0
"""Mean angle between normals and the vertical below which a material is flat, in degrees."""


def material_classes(target: Maps) -> list[tuple[str, ...]]:
    """Find the classes of each material of a batch.

    Args:
        target: True maps `(B, C, H, W)`, in the ranges of `neuropbr_core.maps`.

    Returns:
        The classes of each image, in the order of `CLASSES`; none when a map is missing.
    """
    count = len(next(iter(target.values())))
    if not set(MAPS) <= set(target):
        return [()] * count
    metallic = _means(target[METALLIC.name])
    roughness = _means(target[ROUGHNESS.name])
    # Luma, the weighted sum of encoded channels: brightness as it looks.
    luma = _means(luminance(target[ALBEDO.name].float()))
    normal = target[NORMAL.name].float()
    tilt = torch.rad2deg(torch.atan2(torch.linalg.vector_norm(normal[:, :2], dim=1, keepdim=True), normal[:, 2:]))
    slope = _means(tilt)
    classes = []
    for index in range(count):
        names = [_substance(metallic[index], roughness[index])]
        if names[0] == NON_METAL and roughness[index] < _SMOOTH and luma[index] > _BRIGHT:
            names.append(BRIGHT_SMOOTH)
        if slope[index] < _FLAT_SLOPE:
            names.append(FLAT)
        else:
            names.append(BUMPY)
        classes.append(tuple(names))
    return classes


def _substance(metallic: float, roughness: float) -> str:
    if metallic <= 0.5:
        return NON_METAL
    if roughness < _MIRROR:
        return MIRROR_METAL
    if roughness < _BRUSHED:
        return BRUSHED_METAL
    return ROUGH_METAL


def _means(values: Float[Tensor, "B C H W"]) -> list[float]:
    means: list[float] = values.float().flatten(1).mean(dim=1).tolist()
    return means
