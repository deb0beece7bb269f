"""Plain UNet encoder: two 3×3 convolutions a level; max-pooling or a strided convolution halves the size.

Source: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_encoders.unet.pyramid import UNetEncoder

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the UNet encoder."""

    channels: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...],
        Meta(
            min_length=1, description="Channels of each level, finest (full resolution) first; each next level halves."
        ),
    ] = (64, 128, 256, 512, 1024, 2048)
    downsampling: Annotated[
        Literal["max_pool", "strided"],
        Meta(description="Halve with 2×2 max-pooling, or with a stride of 2 in the level's first convolution."),
    ] = "max_pool"
    norm: Annotated[
        Literal["batch", "group", "none"],
        Meta(description="Normalisation after each convolution; `group` is 32 groups."),
    ] = "batch"


@hookimpl
def encoder_options() -> type:
    """The options dataclass."""
    return Options


@hookimpl
def create_encoder(options: Options, in_channels: int) -> "UNetEncoder":
    """Build the encoder."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_encoders.unet.pyramid import UNetEncoder

    return UNetEncoder(options, in_channels)
