"""How every loss of this family leaves out what no view sees.

Invalid pixels are replaced before any arithmetic, so that their content, whatever it is, changes neither a value nor
a gradient; means are taken over each image's valid pixels and then over the images that have any.
"""

from jaxtyping import Float
from torch import Tensor


def conceal(
    values: Float[Tensor, "B C H W"], valid: Float[Tensor, "B 1 H W"], fill: float = 0.0
) -> Float[Tensor, "B C H W"]:
    """Return float32 `values` with invalid pixels set to `fill`; no gradient reaches those."""
    return values.float().masked_fill(valid == 0, fill)


def masked_mean(values: Float[Tensor, "B C H W"], valid: Float[Tensor, "B 1 H W"]) -> Float[Tensor, ""]:
    """Average over the valid pixels (and channels) of each image, then over images with a valid pixel.

    Args:
        values: Any per-pixel quantity.
        valid: 1 where a pixel counts, 0 where it does not.

    Returns:
        A scalar; zero when nothing is valid.
    """
    pixels = (valid != 0).sum(dim=(1, 2, 3))
    sums = conceal(values, valid).sum(dim=(1, 2, 3))
    means = sums / (pixels * values.shape[1]).clamp(min=1)
    return means.sum() / (pixels > 0).sum().clamp(min=1)
