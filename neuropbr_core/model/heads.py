"""Heads: from the trunk's features to a map's logits, and from logits to the map."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.maps import MapSpec


def activate(spec: MapSpec, logits: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
    """Turn a head's logits into the map, in the map's range (see `neuropbr_core.maps`).

    Args:
        spec: The map.
        logits: `(B, spec.logit_channels, H, W)`; computed on in float32 whatever comes in.

    Returns:
        The map, float32 `(B, spec.channels, H, W)`.
    """
    logits = logits.float()
    if spec.activation == "sigmoid":
        return logits.sigmoid()
    return F.normalize(torch.cat((logits, torch.ones_like(logits[:, :1])), dim=1), dim=1)


def albedo_logits(color: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Inverse of the sigmoid, with `color` kept half an 8-bit step away from 0 and 1 so that it stays finite."""
    margin = 0.5 / 255
    return torch.logit(color.float().clamp(margin, 1 - margin))


class Head(nn.Sequential):
    """A 3×3 and a 1×1 convolution that emit one map's logits.

    Its input is one pixel wider on each side than its output. The generator continues the frame once for all heads
    (`borders.continue_border`), because each head would otherwise keep a copy of the largest features for the backward
    pass.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, hidden, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, out_channels, 1),
        )

    def start_at_zero(self) -> None:
        """Make the head emit exactly zero until it is trained, as a residual should."""
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)
