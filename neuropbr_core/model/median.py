"""The median of aligned views: the simplest estimate of albedo, and what a residual prediction starts from."""

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
    seen = visible >= 0.5
    seen = seen | ~seen.any(dim=1, keepdim=True)
    count = seen.sum(dim=1, keepdim=True)
    ordered = views.masked_fill(~seen, float("inf")).sort(dim=1).values
    low, high = ((count - 1) // 2).expand_as(views[:, :1]), (count // 2).expand_as(views[:, :1])
    return ((ordered.gather(1, low) + ordered.gather(1, high)) / 2).squeeze(1)
