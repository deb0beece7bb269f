"""Convolutional attention: blocks that share one large kernel refine each view, then statistics join the views.

Time and memory grow linearly with the number of pixels. The time of a transformer grows with its square, and so does
its memory where attention is not fused.

Source: Lee et al. 2025, "Emulating Self-attention with Convolution for Efficient Image Super-Resolution" (ESC);
docs/students.md says where it differs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_fusion.convattn.fusion import ConvAttnFusion

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the convolutional attention."""

    channels: Annotated[int, Meta(ge=1, description="Channels that latents are projected to, and of the result.")] = 320
    blocks: Annotated[int, Meta(ge=1, description="Blocks that refine each view.")] = 3
    kernel_size: Annotated[
        int,
        Meta(
            ge=1,
            le=63,
            description="Side of the shared kernel, odd; above 13 Apple's Neural Engine is likely to hand the "
            "convolution to another processor.",
        ),
    ] = 17
    expansion: Annotated[float, Meta(gt=0, description="Width of the pointwise mixing, relative to `channels`.")] = 2.0
    squeeze: Annotated[
        float, Meta(gt=0, le=1, description="Width of the squeeze-and-excitation, relative to `channels`.")
    ] = 0.25


@hookimpl
def fusion_options() -> type:
    """The options dataclass."""
    return Options


@hookimpl
def create_fusion(options: Options, in_channels: int) -> "ConvAttnFusion":
    """Build the fusion block."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_fusion.convattn.fusion import ConvAttnFusion

    return ConvAttnFusion(options, in_channels)
