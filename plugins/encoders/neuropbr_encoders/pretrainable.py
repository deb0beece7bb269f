"""Options of every encoder whose network is timm's. Light: no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from neuropbr_core.plugin import Meta

StemStride = Annotated[
    Literal[1, 2],
    Meta(description="Stride of the first convolution; 1 keeps features at full resolution, at 4 times the cost."),
]


@dataclass(frozen=True)
class PretrainableOptions:
    """What can be asked of a network of timm, whichever it is; a component narrows `variant` to its own.

    Attributes:
        variant: Size of the network.
        stem_stride: Stride of the first convolution.
        pretrained: Whether to start from ImageNet weights.
        weights: File to start from instead.
        freeze: Whether nothing trains.
        freeze_batch_norm: Whether batch norms stay as they are.
    """

    variant: str = ""
    stem_stride: StemStride = 1
    pretrained: Annotated[
        bool, Meta(description="Start from ImageNet weights, downloaded by timm unless `weights` names a file.")
    ] = False
    weights: Annotated[
        str | None,
        Meta(description="Start from this file: `.safetensors` or a PyTorch state dict, under timm's names."),
    ] = None
    freeze: Annotated[bool, Meta(description="Train nothing of the encoder; batch-norm statistics stay too.")] = False
    freeze_batch_norm: Annotated[
        bool, Meta(description="Keep batch-norm statistics and factors as they are; convolutions still train.")
    ] = False
