"""Cross-view transformer: every pixel of every view attends to every other.

Source: Dosovitskiy et al. 2021, "An Image Is Worth 16x16 Words"; Vaswani et al. 2017, "Attention Is All You Need".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_fusion.vit.transformer import ViewTransformer

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the cross-view transformer."""

    dim: Annotated[int, Meta(ge=1, description="Width of the tokens, and channels of the result.")] = 2048
    heads: Annotated[int, Meta(ge=1, description="Attention heads; must divide `dim`.")] = 32
    depth: Annotated[int, Meta(ge=1, description="Transformer blocks.")] = 4
    mlp_ratio: Annotated[float, Meta(gt=0, description="Width of each block's MLP, relative to `dim`.")] = 4.0
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="Dropout after attention's output projection and in the MLP.")
    ] = 0.0
    attention_dropout: Annotated[float, Meta(ge=0, lt=1, description="Dropout of attention weights.")] = 0.0
    drop_path: Annotated[
        float, Meta(ge=0, lt=1, description="Stochastic depth of the last block; earlier blocks have less, linearly.")
    ] = 0.0
    position: Annotated[
        Literal["sine2d", "none"],
        Meta(
            description="`sine2d` tells tokens where they lie (any size; `dim` divisible by 4); `none` does not, which "
            "suits models trained on small crops and used on whole frames."
        ),
    ] = "sine2d"


@hookimpl
def fusion_options() -> type:
    """The options dataclass."""
    return Options


@hookimpl
def create_fusion(options: Options, in_channels: int) -> "ViewTransformer":
    """Build the fusion block."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_fusion.vit.transformer import ViewTransformer

    return ViewTransformer(options, in_channels)
