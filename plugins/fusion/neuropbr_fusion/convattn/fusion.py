"""Fusion by convolutional attention: a shared large kernel, the block that mixes with it, and the stack of blocks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Fusion
from neuropbr_core.errors import ModelError
from neuropbr_fusion.convattn import Options
from neuropbr_fusion.pooling import view_statistics
from neuropbr_fusion.visibility import blank_unseen

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


class ConvAttnFusion(Fusion):
    """Refines each view by blocks that share one large kernel, then joins the views by their statistics.

    The block follows the idea of ESC: one large convolution kernel, shared by all layers, does at linear cost what
    self-attention does in early and middle layers. It differs from ESC in these points:

    - The kernel is depthwise over all channels, normalised, and 17×17. The kernel of ESC is dense over the first 16
      channels and 13×13; the other channels pass.
    - The kernel is not averaged over flips and turns, because light comes from one side.
    - Squeeze-and-excitation adapts to the input. ESC has an input-dependent 3×3 kernel.
    - Two pointwise convolutions behind the kernel mix the channels. ESC has a network with a 3×3 depthwise convolution
      before the kernel, and one pointwise convolution behind it.
    - Normalisation is batch norm, because it folds into convolutions. ESC has layer norm.
    - The output of a block has a learned scale. ESC has none.
    - There is no self-attention. ESC keeps one layer of it in each group of blocks.

    Mean, maximum and deviation, weighted by visibility, join the views, so their number and order do not matter. Pixels
    that a view does not see are blanked before the first block; the kernel fills them from seen pixels nearby.

    Source: Lee et al. 2025, "Emulating Self-attention with Convolution for Efficient Image Super-Resolution",
    section 3 (ConvAttn with a pre-computed large kernel).

    Args:
        options: The recipe's options.
        in_channels: Channels of the latents.

    Raises:
        ModelError: `kernel_size` is even.
    """

    def __init__(self, options: Options, in_channels: int) -> None:
        super().__init__()
        if options.kernel_size % 2 == 0:
            size = options.kernel_size
            raise ModelError(f"fusion convattn: kernel_size {size} is even; take {size - 1} or {size + 1}")
        channels = options.channels
        mixed = max(1, round(channels * options.expansion))
        squeezed = max(1, round(channels * options.squeeze))
        self.out_channels = channels
        # No bias, so that blank pixels stay blank.
        self.project = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.kernel = LargeKernel(channels, options.kernel_size)
        self.blocks = nn.ModuleList(ConvAttnBlock(channels, mixed, squeezed) for _ in range(options.blocks))
        # Three statistics of every channel.
        self.join = nn.Conv2d(3 * channels, channels, 1)

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
        # Blocks see single views: views become part of the batch until the statistics join them.
        blanked = blank_unseen(latents.flatten(3), visible.flatten(3)).flatten(0, 1)
        x = self.project(blanked.reshape(*blanked.shape[:2], *latents.shape[3:]))
        visible_by_view = visible.flatten(0, 1)
        # Normalised once, not in every block.
        kernel = self.kernel()
        for block in self.blocks:
            x = block(x, kernel, visible_by_view)
        fused: Tensor = self.join(view_statistics(x.unflatten(0, latents.shape[:2]), visible))
        return fused
