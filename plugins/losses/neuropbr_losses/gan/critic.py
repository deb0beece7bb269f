"""The PatchGAN critic: a stack of convolutions in which every output judges one patch of the maps."""

from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.errors import ModelError

KERNEL = 4
"""Side of all kernels; a multiple of the stride 2, so that every pixel enters equally many windows."""


class PatchCritic(nn.Module):
    """Scores overlapping patches of a set of maps.

    The critic has `layers` 4×4 convolutions of stride 2 and then two of stride 1, all padded by 1. The channels double
    from `width` up to eight times `width`. Instance normalisation without running statistics follows every convolution
    but the first and the last. It normalises each image by itself, so scores do not depend on the rest of the batch:
    the critic works at batch size 1, real and predicted maps can share one forward pass, and a frozen critic has no
    buffers that could change. Batch normalisation fails on each of these points.

    Args:
        in_channels: Channels of all maps together.
        layers: Number of convolutions of stride 2. The receptive field is 9·2^layers - 2 pixels: 70 for 3, 142 for 4,
            574 for 6.
        width: Channels of the first layer.
        sigmoid: Whether the critic ends in a sigmoid, so that scores are probabilities (float32) instead of logits.

    Source: P. Isola, J.-Y. Zhu, T. Zhou, A. Efros, "Image-to-Image Translation with Conditional Adversarial
    Networks", CVPR 2017, sections 3.2.2 and 6.1.2.
    """

    def __init__(self, in_channels: int, layers: int, width: int, sigmoid: bool = False) -> None:
        super().__init__()
        self.minimum_size = minimum_size(layers)
        self.sigmoid = sigmoid
        widths = [width * min(2**depth, 8) for depth in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], KERNEL, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for depth in range(1, layers + 1):
            stride = 1
            if depth < layers:
                stride = 2
            blocks += [
                # No bias: the normalisation subtracts it with the mean.
                nn.Conv2d(widths[depth - 1], widths[depth], KERNEL, stride=stride, padding=1, bias=False),
                nn.InstanceNorm2d(widths[depth], affine=True),
                nn.LeakyReLU(0.2),
            ]
        self.stack = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, KERNEL, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # N(0, 0.02²), as Isola et al. 2017, section 6.2, start their networks.
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 h w"]:
        """Score patches.

        Args:
            maps: All maps in [-1, 1], concatenated along channels; H and W at least `minimum_size`.

        Returns:
            The score of each patch, higher for real maps: a logit, or with `sigmoid` a probability. The height is
            h = floor(H / 2^layers) - 2, and likewise the width.

        Raises:
            ModelError: The maps are too small to give one score.
        """
        if min(maps.shape[-2:]) < self.minimum_size:
            raise ModelError(too_small(maps.shape[-1], maps.shape[-2], self.minimum_size))
        scores: Tensor = self.stack(maps)
        if self.sigmoid:
            # In float32, because a probability in half precision reaches 1 at a logit of 8, and its logarithm 0.
            return scores.float().sigmoid()
        return scores


def minimum_size(layers: int) -> int:
    """Compute the smallest maps that a critic can judge.

    Args:
        layers: Number of convolutions of stride 2.

    Returns:
        The side of the maps in pixels that leaves one score.
    """
    # 3 pixels must be left after the halvings, because each of the two last convolutions takes one away.
    return 3 << layers


def too_small(width: int, height: int, minimum: int) -> str:
    """Write the error message for maps that are too small for the critic; all arguments are pixels."""
    return (
        f"loss gan: maps are {width}×{height} pixels, but this critic needs at least {minimum}×{minimum}; "
        "lower `layers` or train on larger crops"
    )
