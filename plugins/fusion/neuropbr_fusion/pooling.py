"""Statistics across views: what a set of lights says of a pixel, whatever their number and order."""

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_fusion.visibility import blank_unseen, is_seen, view_weights

_EPS = 1e-4
"""Keeps the deviation's gradient finite at zero variance; a normal number in fp16 too."""


def view_statistics(
    latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"]
) -> Float[Tensor, "B 3*C h w"]:
    """Mean, maximum and standard deviation across views, weighted by what each view sees.

    Computed in float32 at least, because squares of half-precision features overflow.

    Args:
        latents: Latents of any number of views.
        visible: Share of each latent pixel that the view sees, in [0, 1].

    Returns:
        The three, concatenated along channels, in the latents' dtype. The deviation is sqrt(variance + ε) - sqrt(ε):
        0 for equal views, with a gradient of 0 there. All are 0 where no view sees the pixel.
    """
    size, dtype = latents.shape[3:], torch.promote_types(latents.dtype, torch.float32)
    latents, visible = latents.flatten(3), visible.flatten(3)
    values = blank_unseen(latents, visible).to(dtype)
    weights = view_weights(visible.to(dtype))
    mean = (values * weights).sum(dim=1)
    variance = ((values - mean.unsqueeze(1)).square() * weights).sum(dim=1)
    deviation = (variance + _EPS).sqrt() - _EPS**0.5
    statistics = torch.cat((mean, _maximum(values, visible), deviation), dim=1).to(latents.dtype)
    return statistics.reshape(*statistics.shape[:2], *size)


def _maximum(values: Float[Tensor, "B V C P"], visible: Float[Tensor, "B V 1 P"]) -> Float[Tensor, "B C P"]:
    seen = is_seen(visible)
    highest = values.masked_fill(~seen, torch.finfo(values.dtype).min).amax(dim=1)
    return highest.masked_fill(~seen.any(dim=1), 0)
