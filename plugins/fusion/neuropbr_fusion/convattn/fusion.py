"""Fusion by convolutional attention."""

from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.contracts import Fusion
from neuropbr_core.errors import ModelError
from neuropbr_fusion.convattn import Options
from neuropbr_fusion.convattn.blocks import ConvAttnBlock, LargeKernel
from neuropbr_fusion.pooling import view_statistics
from neuropbr_fusion.visibility import blank_unseen


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
        self, latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"]
    ) -> Float[Tensor, "B out h w"]:
        """Fuse latents.

        Args:
            latents: Latents of any number of views.
            visible: Share of each latent pixel that the view sees, in [0, 1].

        Returns:
            The fused latent.
        """
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
