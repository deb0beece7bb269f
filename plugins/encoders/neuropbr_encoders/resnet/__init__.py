"""ResNet feature pyramid (18, 34, 50, 101, 152), with the stem at full or half resolution.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition"; networks and ImageNet weights are timm's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_encoders.resnet.pyramid import ResNetEncoder

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the ResNet encoder."""

    variant: Annotated[
        Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"], Meta(description="Depth of the network.")
    ] = "resnet50"
    stem_stride: Annotated[
        Literal[1, 2],
        Meta(description="Stride of the first convolution; 1 keeps features at full resolution, at 4 times the cost."),
    ] = 1
    pretrained: Annotated[
        bool, Meta(description="Start from ImageNet weights, downloaded by timm unless `weights` names a file.")
    ] = False
    weights: Annotated[
        str | None,
        Meta(description="Start from this file: `.safetensors`, or a PyTorch state dict of timm or torchvision."),
    ] = None
    freeze: Annotated[bool, Meta(description="Train nothing of the encoder; batch-norm statistics stay too.")] = False
    freeze_batch_norm: Annotated[
        bool, Meta(description="Keep batch-norm statistics and factors as they are; convolutions still train.")
    ] = False


@hookimpl
def encoder_options() -> type:
    """The options dataclass."""
    return Options


@hookimpl
def create_encoder(options: Options, in_channels: int) -> "ResNetEncoder":
    """Build the encoder."""
    from neuropbr_encoders.resnet.pyramid import ResNetEncoder

    return ResNetEncoder(options, in_channels)
