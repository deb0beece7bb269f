"""How several views become one, whatever their number and order: their features, and the median of their pixels."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from neuropbr_core.recording import is_recording

_EPS = 1e-6  # share of a pixel below which a view does not see it
_SOFT = 1e-2
"""Deviations well below this (in feature units) are flattened towards 0."""


def visibility_pyramid(visible: Float[Tensor, "B V 1 H W"], strides: tuple[int, ...]) -> list[Tensor]:
    """Share of each feature pixel that each view sees.

    Args:
        visible: Visibility at input resolution, in [0, 1].
        strides: Feature strides; H and W are divisible by each.

    Returns:
        One `(B, V, 1, H / stride, W / stride)` tensor per stride, in [0, 1].
    """
    return [by_sample(F.avg_pool2d(visible.flatten(0, 1), stride), visible) for stride in strides]


def by_sample(flat: Float[Tensor, "N C h w"], like: Float[Tensor, "B V D H W"]) -> Float[Tensor, "B V C h w"]:
    """Split a batch of single images into samples and views, as many as `like` has."""
    return flat.view(*like.shape[:2], *flat.shape[1:])


class ViewMerge(nn.Module):
    """Merges a feature level of V views into one.

    `mean` is the visible-weighted mean. `statistics` concatenates mean, maximum and standard deviation across views:
    the spread under a moving light is what tells rough from smooth and metal from dielectric (order-independent
    pooling after Deschaintre et al. 2019, "Flexible SVBRDF Capture with a Multi-Image Deep Network").
    """

    def __init__(self, mode: Literal["mean", "statistics"]) -> None:
        super().__init__()
        self.mode = mode

    def out_channels(self, channels: int) -> int:
        """Channels of the merged feature for features of `channels` channels."""
        if self.mode == "statistics":
            return 3 * channels
        return channels

    def forward(
        self, features: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"]
    ) -> Float[Tensor, "B out h w"]:
        """Merge over views; pixels that no view sees become zero.

        Pixels are one axis meanwhile, because mobile accelerators take tensors of four axes at most.
        """
        # Remembered, because the pixels become one axis and are put back at the end.
        size = features.shape[3:]
        features = features.flatten(3)
        visible = visible.flatten(3)
        is_seen = visible > _EPS
        weight = visible / visible.sum(dim=1, keepdim=True).clamp_min(_EPS)
        if self.mode == "mean":
            merged = (_kept(features, is_seen) * weight).sum(dim=1)
        elif is_recording():
            merged = statistics_by_operators(features, weight, is_seen)
        else:
            merged = Statistics.apply(features, weight, is_seen)
        return merged.reshape(*merged.shape[:2], *size)


def statistics_by_operators(
    features: Float[Tensor, "B V C N"], weight: Float[Tensor, "B V 1 N"], is_seen: Bool[Tensor, "B V 1 N"]
) -> Float[Tensor, "B out N"]:
    """Compute mean, maximum and standard deviation over views, operator by operator, for exports and comparisons.

    Args:
        features: Features of each view.
        weight: Share of each view in a pixel; those of a pixel add up to 1, or to 0 where no view sees it.
        is_seen: Whether a view sees a pixel.

    Returns:
        One after the other, along the channels; 0 where no view sees a pixel.
    """
    kept = _kept(features, is_seen)
    mean = (kept * weight).sum(dim=1)
    maximum = features.masked_fill(~is_seen, torch.finfo(features.dtype).min).amax(dim=1)
    maximum = maximum.masked_fill(~is_seen.any(dim=1), 0.0)  # instead of the lowest number there is
    # In float32, because the squares of half-precision features overflow or vanish.
    variance = ((kept.float() - mean.float().unsqueeze(1)).square() * weight.float()).sum(dim=1)
    # Exactly 0 for equal views, with a finite slope there.
    deviation = ((variance + _SOFT**2).sqrt() - _SOFT).to(mean.dtype)
    return torch.cat((mean, maximum, deviation), dim=1)


def _kept(features: Tensor, is_seen: Tensor) -> Tensor:
    # Filled, not multiplied: what a view does not see may be infinite, and 0 times infinity is no number.
    return torch.where(is_seen, features, 0)


class Statistics(torch.autograd.Function):
    """`statistics_by_operators`, view by view and with a derivative of its own.

    The operators keep several tensors of all views for the backward pass and go over each again; this keeps the
    features, which their encoder keeps anyway, and the result.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, is_seen: Tensor) -> Tensor:
        """Compute the statistics; arguments and result are those of `statistics_by_operators`."""
        dtype = torch.promote_types(features.dtype, weight.dtype)
        batch, _, channels, pixels = features.shape
        # At least float32, because the squares of half-precision features overflow or vanish.
        result = features.new_empty(batch, 3 * channels, pixels, dtype=torch.promote_types(dtype, torch.float32))
        lowest = torch.finfo(features.dtype).min
        for part, shares, seen, merged in _parts(features, weight, is_seen, result):
            mean, maximum, deviation = merged.chunk(3, dim=1)
            mean.zero_()
            maximum.fill_(lowest)
            for view in range(part.shape[1]):
                mean.addcmul_(_kept(part[:, view], seen[:, view]), shares[:, view])
                torch.maximum(maximum, torch.where(seen[:, view], part[:, view], lowest), out=maximum)
            maximum.masked_fill_(~seen.any(dim=1), 0.0)
            deviation.fill_(_SOFT**2)
            for view in range(part.shape[1]):
                distance = _kept(part[:, view], seen[:, view]) - mean
                deviation.addcmul_(distance.mul_(distance), shares[:, view])
            deviation.sqrt_().sub_(_SOFT)
        ctx.save_for_backward(features, weight, is_seen, result)
        return result.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Compute the gradient of the features; shares and visibility are given, and have none."""
        features, weight, is_seen, result = ctx.saved_tensors
        (gradient,) = gradients
        of_features = torch.empty_like(features)
        for part, shares, seen, merged, of_merged, of_part in _parts(
            features, weight, is_seen, result, gradient.to(result.dtype), of_features
        ):
            mean, maximum, deviation = merged.chunk(3, dim=1)
            of_mean, of_maximum, of_deviation = of_merged.chunk(3, dim=1)
            # d deviation / d view = weight · (view - mean) / √(variance + soft²). The mean moves too, but adds nothing,
            # because the weighted distances from it add up to 0.
            slope = of_deviation / (deviation + _SOFT)
            is_largest = (part == maximum.unsqueeze(1)) & seen
            # Equal views share the gradient of the maximum, as `amax` has it.
            of_maximum = of_maximum / is_largest.sum(dim=1).clamp_min(1)
            for view in range(part.shape[1]):
                distance = _kept(part[:, view], seen[:, view]) - mean
                of_view = distance.mul_(slope).add_(of_mean).mul_(shares[:, view] * seen[:, view])
                of_part[:, view] = of_view.addcmul_(of_maximum, is_largest[:, view].to(of_view.dtype))
        return of_features, None, None


def _parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split a batch into what is handled at once: on a CPU single samples, which its caches hold, else all of it."""
    count = 1
    if tensors[0].device.type == "cpu":
        count = tensors[0].shape[0]
    return zip(*(tensor.chunk(count) for tensor in tensors), strict=True)


# The median is computed from minima, maxima and choices alone. Most of the formats that models are exported to lack
# sorting and gathering by computed indices, or are slow at them.


def visible_median(views: Float[Tensor, "B V C H W"], visible: Float[Tensor, "B V 1 H W"]) -> Float[Tensor, "B C H W"]:
    """Per-pixel, per-channel median over the views that see the pixel.

    A view counts where `visible` is at least one half. With an even count the two middle values are averaged; where no
    view sees the pixel the median of all views is returned, so that the result is always finite.

    Args:
        views: Aligned views in any range.
        visible: What each view sees, in [0, 1].

    Returns:
        The median, in the range of `views`.
    """
    is_seen = visible >= 0.5
    # Where no view sees the pixel, all of them count, so that the result is finite.
    is_seen = torch.logical_or(is_seen, ~is_seen.any(dim=1, keepdim=True))
    count = is_seen.to(views.dtype).sum(dim=1)
    # What is not seen becomes the largest number, sorts behind the others and is never picked.
    ordered = _sorted(list(views.masked_fill(~is_seen, torch.finfo(views.dtype).max).unbind(dim=1)))
    low = high = ordered[0]
    for rank, value in enumerate(ordered[1:], 1):  # (count - 1) // 2 >= rank, and count // 2 >= rank
        low = torch.where(count > 2 * rank, value, low)
        high = torch.where(count >= 2 * rank, value, high)
    return (low + high) / 2


def _sorted(values: list[Tensor]) -> list[Tensor]:
    """Sort tensors element by element, smallest first.

    Source: Knuth 1998, "The Art of Computer Programming" 3 (2nd ed.), exercise 5.3.4-37 (odd-even transposition).
    """
    for turn in range(len(values)):
        for left in range(turn % 2, len(values) - 1, 2):
            pair = values[left], values[left + 1]
            values[left] = torch.minimum(*pair)
            values[left + 1] = torch.maximum(*pair)
    return values
