"""Options that all encoders with a network of timm share. The module imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from neuropbr_core.plugin import BELONGS_TO, Meta

StemStride = Annotated[
    Literal[1, 2],
    Meta(description="Stride of the first convolution; 1 keeps features at full resolution, at 4 times the cost."),
]


@dataclass(frozen=True)
class PretrainableOptions:
    """Options of an encoder with a network of timm; each component narrows `variant` to the sizes of its network.

    Attributes:
        variant: Size of the network.
        stem_stride: Stride of the first convolution.
        pretrained: Whether training starts from ImageNet weights; `auto` where they can be had.
        weights: A file with start weights; it takes precedence over `pretrained`.
        freeze: Whether the whole encoder stays as it is.
        freeze_batch_norm: Whether batch norms keep their statistics, scales and shifts.
    """

    # A component replaces the empty name by its own choices; a dataclass wants a default before other defaults.
    variant: str = ""
    # Full resolution by default: fine detail of a texture does not survive a stem that halves it.
    stem_stride: StemStride = 1
    pretrained: Annotated[
        bool | Literal["auto"],
        Meta(
            description="Start from ImageNet weights, downloaded by timm unless `weights` names a file; `auto` starts "
            "from random weights where they cannot be had, and says so."
        ),
    ] = False
    weights: Annotated[
        str | None,
        Meta(
            extra={BELONGS_TO: "variant"},
            description="Start from this file: `.safetensors` or a PyTorch state dict, under timm's names.",
        ),
    ] = None
    freeze: Annotated[
        bool,
        Meta(description="Train nothing of the encoder; batch-norm statistics stay too. It needs start weights."),
    ] = False
    freeze_batch_norm: Annotated[
        bool, Meta(description="Keep batch-norm statistics and factors as they are; convolutions still train.")
    ] = False
