"""Profiles of edges, and masks."""

import math
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor


def smoothstep(low: float, high: float, field: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Rise from 0 to 1 with level ends: t² (3 - 2 t).

    Args:
        low: Value at which the result is 0.
        high: Value at which the result is 1; below `low`, the step falls.
        field: Values to map.

    Returns:
        Values in [0, 1].

    Source: the cubic Hermite interpolation between 0 and 1 with slopes 0.
    """
    t = ((field - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def rounded(inside: Float[Tensor, "..."], width: float) -> Float[Tensor, "..."]:
    """Round an edge with a quarter of a sine: 0 at the outline, 1 and level from `width` inwards.

    Args:
        inside: Distance to the outline, positive inside.
        width: Width of the rounding, in the same unit. A step of height h then has a slope of at most π/2 · h / width.

    Returns:
        Values in [0, 1].
    """
    return torch.sin((inside / width).clamp(0, 1) * (math.pi / 2))


def covering(field: Float[Tensor, "S S"], share: float, softness: float = 0.15) -> Float[Tensor, "S S"]:
    """Mask the highest parts of a noise.

    Args:
        field: Noise of mean 0 and standard deviation 1, about normally distributed.
        share: Part of the tile to cover, in (0, 1); met on average over seeds.
        softness: Half width of the mask's edge, in standard deviations.

    Returns:
        1 on the highest parts, 0 elsewhere.

    Source: the quantile of the normal distribution at 1 - share.
    """
    # Clamped, because the quantiles of 0 and 1 are infinite.
    level = NormalDist().inv_cdf(min(max(1 - share, 1e-4), 1 - 1e-4))
    return smoothstep(level - softness, level + softness, field)


def mix(
    below: Float[Tensor, "..."], above: Float[Tensor, "..."] | float, mask: Float[Tensor, "..."] | float
) -> Float[Tensor, "..."]:
    """Blend linearly.

    Args:
        below: Values where the mask is 0.
        above: Values where the mask is 1.
        mask: Weight of `above`, in [0, 1].

    Returns:
        The blend.
    """
    return below * (1 - mask) + above * mask
