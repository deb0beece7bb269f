"""Fusion by statistics across views."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.contracts import Fusion
from neuropbr_fusion.concat import Options
from neuropbr_fusion.visibility import blank_unseen, is_seen, view_weights

_EPS = 1e-4
"""Keeps the deviation's gradient finite at zero variance; a normal number in fp16 too."""


class StatisticsFusion(Fusion):
    """Concatenates mean, maximum and standard deviation across views, and mixes them pixel by pixel.

    Plain concatenation of the views would fix their number and give each place in the list a meaning of its own.
    Statistics take any number in any order, and say what matters of a set of lights: the common part (mean) is close
    to the albedo, the highlight (maximum) and the spread (deviation) tell rough from smooth and metal from not.

    Source: Deschaintre et al. 2019, "Flexible SVBRDF Capture with a Multi-Image Deep Network", section 4 (pooling over
    images by maximum; mean and deviation are added here).

    Args:
        options: The recipe's options.
        in_channels: Channels of the latents.
    """

    def __init__(self, options: Options, in_channels: int) -> None:
        super().__init__()
        self.out_channels = options.out_channels or in_channels
        self.mix = nn.Sequential(
            nn.Conv2d(3 * in_channels, self.out_channels, 1),
            nn.ReLU(),
            nn.Conv2d(self.out_channels, self.out_channels, 1),
        )

    def forward(
        self, latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"]
    ) -> Float[Tensor, "B out h w"]:
        """Fuse latents.

        Args:
            latents: Latents of any number of views.
            visible: Share of each latent pixel that the view sees, in [0, 1].
        """
        fused: Tensor = self.mix(view_statistics(latents, visible))
        return fused


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
    dtype = torch.promote_types(latents.dtype, torch.float32)
    values = blank_unseen(latents, visible).to(dtype)
    weights = view_weights(visible.to(dtype))
    mean = (values * weights).sum(dim=1)
    variance = ((values - mean.unsqueeze(1)).square() * weights).sum(dim=1)
    deviation = (variance + _EPS).sqrt() - _EPS**0.5
    return torch.cat((mean, _maximum(values, visible), deviation), dim=1).to(latents.dtype)


def _maximum(values: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"]) -> Float[Tensor, "B C h w"]:
    seen = is_seen(visible)
    highest = values.masked_fill(~seen, torch.finfo(values.dtype).min).amax(dim=1)
    return highest.masked_fill(~seen.any(dim=1), 0)
