"""The median of aligned views: the simplest estimate of albedo, and what a residual prediction starts from.

It is computed from minima, maxima and choices alone. Most of the formats that models are exported to lack sorting and
gathering by computed indices, or are slow at them.
"""

import torch
from jaxtyping import Float
from torch import Tensor


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
