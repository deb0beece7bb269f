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

    After the idea of ESC, that a large convolution kernel shared by all layers does what self-attention does in early
    and middle layers, at linear cost. It differs from ESC: the kernel is depthwise over all channels (ESC: dense over
    the first 16, the others pass), normalised, and 17×17 (13×13); it is not averaged over flips and turns, because
    light comes from a side; squeeze-and-excitation adapts to the input (ESC: an input-dependent 3×3 kernel); channels
    are mixed by two pointwise convolutions behind the kernel (ESC: a network with a 3×3 depthwise convolution before
    it, and one pointwise behind); batch norm, because it folds (ESC: layer norm); what a block adds has a learned scale
    (ESC: none); there is no self-attention at all (ESC keeps one layer a group of blocks).

    Views are joined by visible-weighted mean, maximum and deviation, so neither number nor order matters. What a view
    does not see is blanked before the first block, and is filled by the kernel from what it sees nearby.

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
        mixed, squeezed = (max(1, round(channels * ratio)) for ratio in (options.expansion, options.squeeze))
        self.out_channels = channels
        self.project = nn.Conv2d(in_channels, channels, 1, bias=False)  # what is blank stays blank
        self.kernel = LargeKernel(channels, options.kernel_size)
        self.blocks = nn.ModuleList(ConvAttnBlock(channels, mixed, squeezed) for _ in range(options.blocks))
        self.join = nn.Conv2d(3 * channels, channels, 1)

    def forward(
        self, latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"]
    ) -> Float[Tensor, "B out h w"]:
        """Fuse latents.

        Args:
            latents: Latents of any number of views.
            visible: Share of each latent pixel that the view sees, in [0, 1].
        """
        blanked = blank_unseen(latents.flatten(3), visible.flatten(3)).flatten(0, 1)
        x = self.project(blanked.reshape(*blanked.shape[:2], *latents.shape[3:]))
        seen, kernel = visible.flatten(0, 1), self.kernel()
        for block in self.blocks:
            x = block(x, kernel, seen)
        fused: Tensor = self.join(view_statistics(x.unflatten(0, latents.shape[:2]), visible))
        return fused
