"""How much each view counts at each latent pixel.

Pixels may be one axis or two: blocks compute on one, because mobile accelerators take tensors of four axes at most.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_LEAST = 1e-6
"""Visibility up to this is rounding error of the warp and counts as none."""


def is_seen(visible: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Where visibility is more than none."""
    return visible > _LEAST


def blank_unseen(
    latents: Float[Tensor, "B V C *pixels"], visible: Float[Tensor, "B V 1 *pixels"]
) -> Float[Tensor, "B V C *pixels"]:
    """Set latents to zero where their view sees nothing, whatever they held (NaN included)."""
    return latents.masked_fill(~is_seen(visible), 0)


def view_weights(visible: Float[Tensor, "B V 1 *pixels"]) -> Float[Tensor, "B V 1 *pixels"]:
    """Weights of the visible-weighted mean over views.

    Args:
        visible: Share of each pixel that the view sees, in [0, 1].

    Returns:
        Weights that add up to 1 over the views at every pixel; equal ones where no view sees it.
    """
    counted = visible.masked_fill(~is_seen(visible), 0)
    total = counted.sum(dim=1, keepdim=True)
    return torch.where(total > 0, counted / total.clamp_min(_LEAST), 1 / visible.shape[1])
