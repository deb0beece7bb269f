"""ResNet feature pyramid (18, 34, 50, 101, 152), with the stem at full or half resolution.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition"; the networks and their ImageNet
weights come from timm.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl
from neuropbr_encoders.pretrainable import PretrainableOptions

if TYPE_CHECKING:
    from neuropbr_encoders.resnet.pyramid import ResNetEncoder

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options(PretrainableOptions):
    """Options of the ResNet encoder."""

    variant: Annotated[
        Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"], Meta(description="Depth of the network.")
    ] = "resnet50"


@hookimpl
def encoder_options() -> type:
    """The options dataclass."""
    return Options


@hookimpl
def create_encoder(options: Options, in_channels: int) -> "ResNetEncoder":
    """Build the encoder."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_encoders.resnet.pyramid import ResNetEncoder

    return ResNetEncoder(options, in_channels)
