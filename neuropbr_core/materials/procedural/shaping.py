"""Profiles and masks."""

import math
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor


def smoothstep(low: float, high: float, field: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Rise from 0 at `low` to 1 at `high`, with level ends: t² (3 - 2 t)."""
    t = ((field - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def rounded(inside: Float[Tensor, "..."], width: float) -> Float[Tensor, "..."]:
    """Quarter-sine profile of an edge: 0 at the outline, 1 and level from `width` inwards.

    Args:
        inside: Distance to the outline, positive inside.
        width: Width of the rounding, same unit; times the step's height, the slope is at most π/2 · height / width.
    """
    return torch.sin((inside / width).clamp(0, 1) * (math.pi / 2))


def covering(field: Float[Tensor, "S S"], share: float, softness: float = 0.15) -> Float[Tensor, "S S"]:
    """Mask of the highest parts of a noise.

    Args:
        field: Noise of mean 0 and standard deviation 1, about normally distributed.
        share: Part of the tile to cover, in (0, 1); met on average over seeds.
        softness: Half width of the mask's edge, in standard deviations.

    Returns:
        1 on the highest parts, 0 elsewhere.
    """
    level = NormalDist().inv_cdf(min(max(1 - share, 1e-4), 1 - 1e-4))
    return smoothstep(level - softness, level + softness, field)


def mix(
    below: Float[Tensor, "..."], above: Float[Tensor, "..."] | float, mask: Float[Tensor, "..."] | float
) -> Float[Tensor, "..."]:
    """Blend linearly: `below` where the mask is 0, `above` where it is 1."""
    return below * (1 - mask) + above * mask
