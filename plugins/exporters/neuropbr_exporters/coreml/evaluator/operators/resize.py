"""Resampling of the last two axes."""

from torch import Tensor
from torch.nn import functional as F

from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator


@operator("upsample_bilinear")
def upsample_bilinear(a: Arguments) -> Tensor:
    """Bilinear; the factors are those of the sizes, which the program declares."""
    return F.interpolate(
        a.tensor("x"), size=a.shape[-2:], mode="bilinear", align_corners=a.flag("align_corners", default=True)
    )


@operator("upsample_nearest_neighbor")
def upsample_nearest_neighbor(a: Arguments) -> Tensor:
    """Nearest neighbour."""
    return F.interpolate(a.tensor("x"), size=a.shape[-2:], mode="nearest")


@operator("pixel_shuffle")
def pixel_shuffle(a: Arguments) -> Tensor:
    """Channels to pixels."""
    return F.pixel_shuffle(a.tensor("x"), a.integer("upscale_factor"))


@operator("pixel_unshuffle")
def pixel_unshuffle(a: Arguments) -> Tensor:
    """Pixels to channels."""
    return F.pixel_unshuffle(a.tensor("x"), a.integer("downscale_factor"))
