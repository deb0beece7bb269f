"""The contracting path of a UNet."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.borders import BorderConv2d
from neuropbr_core.contracts import Encoder
from neuropbr_encoders.unet import Options

_GROUPS = 32
"""Groups of group normalisation, the default of Wu and He 2018, "Group Normalization"."""

Norm = Literal["batch", "group", "none"]


class UNetEncoder(Encoder):
    """Levels of two 3×3 convolutions, each followed by normalisation and ReLU; every level halves the one before it.

    The convolutions are padded, so level i has exactly 1 / 2^i of the input's size; the original network crops instead.

    Source: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", section 2.

    Args:
        options: The recipe's options.
        in_channels: Channels of the images.
    """

    def __init__(self, options: Options, in_channels: int) -> None:
        super().__init__()
        self.channels = options.channels
        self.strides = tuple(2**level for level in range(len(options.channels)))
        self.levels = nn.ModuleList()
        inputs = in_channels
        for level, channels in enumerate(options.channels):
            layers: list[nn.Module] = []
            stride = 1
            # The first level keeps the full resolution; all others halve, by pooling or by their first convolution.
            if level > 0 and options.downsampling == "strided":
                stride = 2
            elif level > 0:
                layers.append(nn.MaxPool2d(2))
            layers += _convolution(inputs, channels, options.norm, stride)
            layers += _convolution(channels, channels, options.norm, stride=1)
            self.levels.append(nn.Sequential(*layers))
            inputs = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Keeps the variance of activations from layer to layer, also without normalisation.
                # Source: He et al. 2015, "Delving Deep into Rectifiers", equation 10.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Float[Tensor, "N C H W"]) -> list[Float[Tensor, "N c h w"]]:
        """Encode images.

        Args:
            images: Normalised images; H and W are divisible by `strides[-1]`.

        Returns:
            The output of every level, finest first; output i has `channels[i]` channels and the size
            (H / strides[i], W / strides[i]).
        """
        features: list[Tensor] = []
        for level in self.levels:
            images = level(images)
            features.append(images)
        return features


def _convolution(inputs: int, channels: int, norm: Norm, stride: int) -> list[nn.Module]:
    # A normalisation subtracts the mean, and with it any bias of the convolution before it. The frame continues by its
    # border: zeros would show every pixel near it where the frame ends.
    convolution = BorderConv2d(inputs, channels, 3, stride, bias=norm == "none")
    layers: list[nn.Module] = [convolution]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(channels))
    elif norm == "group":
        # The number of groups must divide the channels, which may be fewer than 32.
        layers.append(nn.GroupNorm(math.gcd(_GROUPS, channels), channels))
    layers.append(nn.ReLU())
    return layers
