"""The shared large kernel, and the block that mixes with it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-4
"""Smallest norm of a kernel and smallest share of visible pixels to divide by. fp16 can hold this number, whereas the
usual 1e-12 becomes 0 in it."""

_START_SCALE = 0.1
"""First scale of a block's contribution. Touvron et al. 2021 start networks of up to 18 blocks with it."""


class LargeKernel(nn.Module):
    """One depthwise kernel, of unit Euclidean norm in every channel, for all blocks.

    A kernel of unit norm keeps the variance of uncorrelated features, however many blocks apply it. The normalised
    kernel depends on a parameter alone, so exporters that fold constants compute it once; hence "pre-computed".

    Args:
        channels: Channels of the features.
        size: Side of the kernel in pixels, odd.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, size, size))
        # size² weights of this deviation have a norm of about 1, so the normalisation changes little at the start.
        nn.init.normal_(self.weight, std=1 / size)

    def forward(self) -> Float[Tensor, "C 1 K K"]:
        """Return the normalised kernel."""
        return F.normalize(self.weight, dim=(2, 3), eps=_EPS)  # type: ignore[arg-type]


class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor in [0, 1] that it derives from the mean over the visible part of the frame.

    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks", equations 2 and 3; the hard sigmoid comes from Howard et
    al. 2019, "Searching for MobileNetV3".

    Args:
        channels: Channels of the features.
        hidden: Channels between the two layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Float[Tensor, "N C h w"], visible: Float[Tensor, "N 1 h w"]) -> Float[Tensor, "N C h w"]:
        """Scale the channels of `x`.

        Args:
            x: Features of single views.
            visible: Share of each pixel that the view sees, in [0, 1].

        Returns:
            The scaled features.
        """
        # Mean over visible pixels as a ratio of two means, both over the whole frame: no number grows with its size.
        share = visible.mean(dim=(2, 3), keepdim=True).clamp_min(_EPS)
        mean = (x * visible).mean(dim=(2, 3), keepdim=True) / share
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(mean))))


class ConvAttnBlock(nn.Module):
    """Gathers with the shared kernel, mixes the channels, weights them, and adds the scaled result to its input.

        x + scale · SE(mix(norm(kernel * x)))

    The scale is one learned number a channel; it starts small, so that a new block changes little.

    Source of the scale: Touvron et al. 2021, "Going Deeper with Image Transformers", section 2.1.

    Args:
        channels: Channels of the features.
        mixed: Channels between the two pointwise convolutions.
        squeezed: Channels inside the squeeze-and-excitation.
    """

    def __init__(self, channels: int, mixed: int, squeezed: int) -> None:
        super().__init__()
        # Batch normalisation, because exporters fold it into the convolution before it.
        self.norm = nn.BatchNorm2d(channels)
        self.mix = nn.Sequential(nn.Conv2d(channels, mixed, 1), nn.Hardswish(), nn.Conv2d(mixed, channels, 1))
        self.attention = SqueezeExcitation(channels, squeezed)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), _START_SCALE))

    def forward(
        self, x: Float[Tensor, "N C h w"], kernel: Float[Tensor, "C 1 K K"], visible: Float[Tensor, "N 1 h w"]
    ) -> Float[Tensor, "N C h w"]:
        """Refine features.

        Args:
            x: Features of single views.
            kernel: The normalised shared kernel.
            visible: Share of each pixel that the view sees, in [0, 1].

        Returns:
            The refined features.
        """
        # One group a channel makes the convolution depthwise; the padding keeps the size.
        gathered = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2, groups=x.shape[1])
        refined: Tensor = x + self.scale * self.attention(self.mix(self.norm(gathered)), visible)
        return refined
