"""Fusion by statistics across views."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.contracts import Fusion
from neuropbr_fusion.concat import Options
from neuropbr_fusion.pooling import view_statistics


class StatisticsFusion(Fusion):
    """Concatenates mean, maximum and standard deviation across views, and mixes them pixel by pixel.

    A plain concatenation of the views would fix their number, and each place in the list would get a meaning of its
    own. Statistics accept any number of views in any order. They also keep what matters about a set of lights: the mean
    is close to the albedo, and the maximum (the highlight) and the deviation (the spread) tell rough from smooth and
    metal from dielectric.

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
            # Three statistics of every channel; a kernel of 1×1 mixes them without looking at neighbours.
            nn.Conv2d(3 * in_channels, self.out_channels, 1),
            nn.ReLU(),
            nn.Conv2d(self.out_channels, self.out_channels, 1),
        )

    def forward(
        self, latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"] | None = None
    ) -> Float[Tensor, "B out h w"]:
        """Fuse latents.

        Args:
            latents: Latents of any number of views.
            visible: Share of each latent pixel that the view sees, in [0, 1]; None when it is 1 everywhere.

        Returns:
            The fused latent.
        """
        if visible is None:
            visible = torch.ones_like(latents[:, :, :1])
        fused: Tensor = self.mix(view_statistics(latents, visible))
        return fused
