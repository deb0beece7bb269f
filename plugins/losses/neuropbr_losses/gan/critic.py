"""The PatchGAN critic: a convolutional stack whose every output judges one patch."""

from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.errors import ModelError

KERNEL = 4


class PatchCritic(nn.Module):
    """Scores overlapping patches of a set of maps.

    `layers` 4×4 convolutions of stride 2, then two of stride 1, all padded by 1; channels double from `width` up to
    eight times it. All but the first and the last are followed by instance normalisation without running statistics:
    each image is normalised by itself, so scores do not depend on what else is in the batch. That holds at batch size
    1, lets real and predicted maps share one forward, and leaves no buffers that a frozen critic could change; batch
    normalisation fails on each of these.

    Args:
        in_channels: Channels of all maps together.
        layers: Stride-2 convolutions. The receptive field is 9·2^layers - 2 pixels: 70 for 3, 142 for 4, 574 for 6.
        width: Channels of the first layer.
        sigmoid: End in a sigmoid, so that scores are probabilities (float32) instead of logits.

    Source: P. Isola, J.-Y. Zhu, T. Zhou, A. Efros, "Image-to-Image Translation with Conditional Adversarial
    Networks", CVPR 2017, sections 3.2.2 and 6.1.2; weights start from N(0, 0.02²) as there.
    """

    def __init__(self, in_channels: int, layers: int, width: int, sigmoid: bool = False) -> None:
        super().__init__()
        self.minimum_size = minimum_size(layers)
        self.sigmoid = sigmoid
        widths = [width * min(2**depth, 8) for depth in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], KERNEL, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for depth in range(1, layers + 1):
            blocks += _block(widths[depth - 1], widths[depth], stride=2 if depth < layers else 1)
        self.stack = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, KERNEL, padding=1))
        self.apply(_start)

    def forward(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 h w"]:
        """Score patches.

        Args:
            maps: All maps in [-1, 1], behind each other; H and W at least `minimum_size`.

        Returns:
            A score a patch, higher for real: a logit, or with `sigmoid` a probability. h = floor(H / 2^layers) - 2.

        Raises:
            ModelError: The maps are too small to give one score.
        """
        if min(maps.shape[-2:]) < self.minimum_size:
            raise ModelError(too_small(maps.shape[-1], maps.shape[-2], self.minimum_size))
        scores: Tensor = self.stack(maps)
        return scores.float().sigmoid() if self.sigmoid else scores


def minimum_size(layers: int) -> int:
    """Smallest side of the maps that leaves a critic of so many stride-2 layers one score."""
    return 3 << layers


def too_small(width: int, height: int, minimum: int) -> str:
    """The message for maps that are too small for the critic."""
    return (
        f"loss gan: maps are {width}×{height} pixels, but this critic needs at least {minimum}×{minimum}; "
        "lower `layers` or train on larger crops"
    )


def _block(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, KERNEL, stride=stride, padding=1, bias=False),
        nn.InstanceNorm2d(out_channels, affine=True),
        nn.LeakyReLU(0.2),
    ]


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
