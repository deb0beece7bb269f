"""Windowed cross-view transformer: attention over all views within a window, in turn with a pooled view of the frame.

Time and memory grow linearly with the number of pixels; those of `vit` grow with its square.

Source: Chu et al. 2021, "Twins: Revisiting the Design of Spatial Attention in Vision Transformers", section 3.2
(local windows and a global exchange in turn); Wang et al. 2022, "PVT v2: Improved Baselines with Pyramid Vision
Transformer", section 3.1 (the exchange is pooled to a fixed size, which makes it linear).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_fusion.window.transformer import WindowTransformer

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the windowed cross-view transformer."""

    dim: Annotated[int, Meta(ge=1, description="Width of the tokens, and channels of the result.")] = 2048
    heads: Annotated[int, Meta(ge=1, description="Attention heads; must divide `dim`.")] = 32
    depth: Annotated[
        int, Meta(ge=1, description="Transformer blocks; the first, third, … look at windows, the others at the frame.")
    ] = 4
    window: Annotated[int, Meta(ge=1, description="Largest side of a window, in pixels of the latents.")] = 8
    pooled: Annotated[
        int, Meta(ge=1, description="Side of the grid of tokens to which each view is averaged for the whole frame.")
    ] = 7
    mlp_ratio: Annotated[float, Meta(gt=0, description="Width of each block's MLP, relative to `dim`.")] = 4.0
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="Dropout after attention's output projection and in the MLP.")
    ] = 0.0
    attention_dropout: Annotated[float, Meta(ge=0, lt=1, description="Dropout of attention weights.")] = 0.0
    drop_path: Annotated[
        float, Meta(ge=0, lt=1, description="Stochastic depth of the last block; earlier blocks have less, linearly.")
    ] = 0.0


@hookimpl
def fusion_options() -> type:
    """The options dataclass."""
    return Options


@hookimpl
def create_fusion(options: Options, in_channels: int) -> "WindowTransformer":
    """Build the fusion block."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_fusion.window.transformer import WindowTransformer

    return WindowTransformer(options, in_channels)
