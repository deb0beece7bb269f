"""MobileNetV3 feature pyramid (large, small), with the stem at full or half resolution; it is small enough for phones.

Source: Howard et al. 2019, "Searching for MobileNetV3". The networks and their ImageNet weights come from timm.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl
from neuropbr_encoders.pretrainable import PretrainableOptions, StemStride

if TYPE_CHECKING:
    from neuropbr_encoders.mobilenetv3.pyramid import MobileNetV3Encoder

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options(PretrainableOptions):
    """Options of the MobileNetV3 encoder."""

    variant: Annotated[Literal["large", "small"], Meta(description="Size of the network.")] = "large"
    # A phone cannot afford features at full resolution, which is the default of the other networks.
    stem_stride: StemStride = 2


@hookimpl
def encoder_options() -> type:
    """The options dataclass."""
    return Options


@hookimpl
def create_encoder(options: Options, in_channels: int) -> "MobileNetV3Encoder":
    """Build the encoder."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_encoders.mobilenetv3.pyramid import MobileNetV3Encoder

    return MobileNetV3Encoder(options, in_channels)
