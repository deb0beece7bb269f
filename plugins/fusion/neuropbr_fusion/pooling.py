"""Statistics across views; they do not depend on the order of the views."""

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_fusion.visibility import blank_unseen, is_seen, view_weights

_EPS = 1e-4
"""Added to the variance, so that the deviation's gradient is finite at zero variance; fp16 can hold it."""


def view_statistics(
    latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"]
) -> Float[Tensor, "B 3*C h w"]:
    """Mean, maximum and standard deviation across views, weighted by what each view sees.

    Args:
        latents: Latents of any number of views.
        visible: Share of each latent pixel that the view sees, in [0, 1].

    Returns:
        The three statistics, concatenated along channels, in the latents' dtype. The deviation is
        sqrt(variance + ε) - sqrt(ε), which is 0 for equal views and has a gradient of 0 there. All three are 0 where no
        view sees the pixel.
    """
    size = latents.shape[3:]
    # Float32 at least, because squares of half-precision features overflow.
    dtype = torch.promote_types(latents.dtype, torch.float32)
    # One axis of pixels keeps every tensor at four axes, which mobile accelerators want.
    latents = latents.flatten(3)
    visible = visible.flatten(3)
    values = blank_unseen(latents, visible).to(dtype)
    weights = view_weights(visible.to(dtype))
    mean = (values * weights).sum(dim=1)
    variance = ((values - mean.unsqueeze(1)).square() * weights).sum(dim=1)
    deviation = (variance + _EPS).sqrt() - _EPS**0.5
    # Blanked latents are 0, which would win against negative features: they get the lowest number instead.
    counted = is_seen(visible)
    maximum = values.masked_fill(~counted, torch.finfo(values.dtype).min).amax(dim=1)
    maximum = maximum.masked_fill(~counted.any(dim=1), 0)
    statistics = torch.cat((mean, maximum, deviation), dim=1).to(latents.dtype)
    return statistics.reshape(*statistics.shape[:2], *size)
