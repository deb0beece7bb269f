"""Masking of the pixels that no view sees; every loss of this family uses it.

Invalid pixels are replaced before any arithmetic, so that their content, NaN included, changes neither a value nor a
gradient. Means are taken over the valid pixels of each image, and then over the images that have a valid pixel.
"""

from jaxtyping import Float
from torch import Tensor


def conceal(
    values: Float[Tensor, "B C H W"], valid: Float[Tensor, "B 1 H W"], fill: float = 0.0
) -> Float[Tensor, "B C H W"]:
    """Set invalid pixels to a constant.

    Args:
        values: Any per-pixel quantity.
        valid: 1 where a pixel counts, 0 where it does not.
        fill: The constant.

    Returns:
        The values in float32; no gradient reaches the invalid pixels.
    """
    # A product with the mask would not do: NaN · 0 is NaN.
    return values.float().masked_fill(valid == 0, fill)


def masked_mean(values: Float[Tensor, "B C H W"], valid: Float[Tensor, "B 1 H W"]) -> Float[Tensor, ""]:
    """Average over the valid pixels (and channels) of each image, then over images with a valid pixel.

    Args:
        values: Any per-pixel quantity.
        valid: 1 where a pixel counts, 0 where it does not.

    Returns:
        A scalar; zero when nothing is valid.
    """
    # Every image counts the same, however few of its pixels are valid.
    pixels = (valid != 0).sum(dim=(1, 2, 3))
    sums = conceal(values, valid).sum(dim=(1, 2, 3))
    # The clamps turn 0 / 0 into 0 without a branch, for which the host would have to wait for the device.
    means = sums / (pixels * values.shape[1]).clamp(min=1)
    return means.sum() / (pixels > 0).sum().clamp(min=1)
