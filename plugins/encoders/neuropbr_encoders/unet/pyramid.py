"""The contracting path of a UNet."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.contracts import Encoder
from neuropbr_encoders.unet import Options

_GROUPS = 32

Norm = Literal["batch", "group", "none"]


class UNetEncoder(Encoder):
    """Levels of two 3×3 convolutions, each followed by normalisation and ReLU; every level halves the one before.

    Convolutions are padded, so level i has exactly 1 / 2^i of the input's size (the original crops instead).

    Source: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", section 2.

    Args:
        options: The recipe's options.
        in_channels: Channels of the images.
    """

    def __init__(self, options: Options, in_channels: int) -> None:
        super().__init__()
        self.channels = options.channels
        self.strides = tuple(2**level for level in range(len(options.channels)))
        strided = options.downsampling == "strided"
        inputs = (in_channels, *options.channels)
        self.levels = nn.ModuleList(
            _level(inputs[level], channels, options.norm, halve=level > 0, strided=strided)
            for level, channels in enumerate(options.channels)
        )
        self.apply(_initialise)

    def forward(self, images: Float[Tensor, "N C H W"]) -> list[Float[Tensor, "N c h w"]]:
        """Encode images.

        Args:
            images: Normalised images; H and W are divisible by `strides[-1]`.

        Returns:
            Every level's output, finest first.
        """
        features: list[Tensor] = []
        for level in self.levels:
            images = level(images)
            features.append(images)
        return features


def _level(inputs: int, channels: int, norm: Norm, *, halve: bool, strided: bool) -> nn.Sequential:
    pool = [nn.MaxPool2d(2)] if halve and not strided else []
    first = _convolution(inputs, channels, norm, stride=2 if halve and strided else 1)
    return nn.Sequential(*pool, *first, *_convolution(channels, channels, norm, stride=1))


def _convolution(inputs: int, channels: int, norm: Norm, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=norm == "none")
    return [convolution, *_normalisation(channels, norm), nn.ReLU()]


def _normalisation(channels: int, norm: Norm) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.GroupNorm(math.gcd(_GROUPS, channels), channels)] if norm == "group" else []


def _initialise(module: nn.Module) -> None:
    """Keep the variance of activations from layer to layer (He et al. 2015, "Delving Deep into Rectifiers", eq. 10)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
