"""How much each view counts at each latent pixel.

Pixels may have one axis or two. Blocks compute on one, because mobile accelerators take tensors of at most four axes.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_LEAST = 1e-6
"""Visibility up to this value is rounding error of the warp that aligns views, and counts as none."""


def is_seen(visible: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Return where a view sees the pixel at all."""
    return visible > _LEAST


def blank_unseen(
    latents: Float[Tensor, "B V C *pixels"], visible: Float[Tensor, "B V 1 *pixels"]
) -> Float[Tensor, "B V C *pixels"]:
    """Set latents to zero where their view sees nothing.

    Args:
        latents: Any values; where the view sees nothing they may be NaN.
        visible: Share of each pixel that the view sees, in [0, 1].

    Returns:
        The latents, zero where their view sees nothing.
    """
    # A product with a mask would not do: NaN · 0 is NaN.
    return latents.masked_fill(~is_seen(visible), 0)


def view_weights(visible: Float[Tensor, "B V 1 *pixels"]) -> Float[Tensor, "B V 1 *pixels"]:
    """Compute the weights of the mean over views.

    Args:
        visible: Share of each pixel that the view sees, in [0, 1].

    Returns:
        Weights in [0, 1] that add up to 1 over the views at every pixel; they are equal where no view sees the pixel.
    """
    counted = visible.masked_fill(~is_seen(visible), 0)
    total = counted.sum(dim=1, keepdim=True)
    # The clamp matters for the branch that is not taken: its gradient is computed too, and 0 / 0 would make it NaN.
    return torch.where(total > 0, counted / total.clamp_min(_LEAST), 1 / visible.shape[1])
