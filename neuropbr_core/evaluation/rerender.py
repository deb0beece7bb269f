"""Errors that are visible to an artist: pictures rendered with predicted maps against pictures with the true maps.

Source: V. Deschaintre et al., "Single-Image SVBRDF Capture with a Rendering-Aware Deep Network", 2018, section 6, and
V. Deschaintre et al., "Flexible SVBRDF Capture with a Multi-Image Deep Network", 2019, section 5.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.metrics import unit_errors
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.relight import Relighting, heldout_relightings, relight

RERENDER = "rerender"
"""Key that takes the place of a map's name in metrics and tables."""


def measure_rerendering(prediction: Maps, target: Maps, valid: Float[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
    """Compare pictures of predicted and of true maps under lamps that no capture has.

    Args:
        prediction: All four maps `(B, C, H, W)`, in the ranges of `neuropbr_core.maps`.
        target: The true maps, same sizes; H and W >= 6.
        valid: 1 where a pixel counts.

    Returns:
        `rerender/mae`, `/rmse`, `/psnr` and `/ssim` of sRGB-encoded pictures in [0, 1], means over
        `heldout_relightings()`; each `(B,)`.
    """
    mask = valid > 0.5
    totals: dict[str, Tensor] = {}
    relightings = heldout_relightings()
    # Lamp by lamp, because pictures of all lamps at once would take eight times the memory of the maps.
    for relighting in relightings:
        errors = unit_errors(rendering(prediction, relighting), rendering(target, relighting), mask)
        for name, value in errors.items():
            totals[name] = totals.get(name, torch.zeros_like(value)) + value
    return {f"{RERENDER}/{name}": total / len(relightings) for name, total in totals.items()}


def rendering(maps: Maps, relighting: Relighting) -> Float[Tensor, "B 3 H W"]:
    """Render maps under one lamp as a screen shows them: sRGB-encoded, clipped to [0, 1]."""
    # Highlights clip before they are encoded, as in a photo.
    return linear_to_srgb(relight(maps, relighting).clamp(0, 1))
