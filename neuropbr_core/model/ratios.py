"""Ratio images: what changes from view to view, with the albedo divided out.

A matte surface lit by a flash at the lens has radiance

    albedo · (n · l) / d²,    n · l = n_z (l_z + p' l_x + q' l_y),    p' = n_x / n_z, q' = n_y / n_z,

l being the direction to lens and flash and d its distance. In the logarithm the albedo is a summand that all views
share and cancels against their mean; on the plane d = h / l_z with a height h that is one number a view, so that
flat-field correction takes 3 log l_z and a constant away. What is left is log(1 + p' l_x / l_z + q' l_y / l_z), to
first order the product of the normal's slopes with the light's: the ratio times the light's slopes is therefore,
averaged over views, the right-hand side of least-squares photometric stereo.

Source: Woodham 1980, "Photometric method for determining surface orientation from multiple images"; ratios of images
after Wolff & Angelopoulou 1994, "Three-dimensional stereo by photometric ratios".
"""

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.color import srgb_to_linear

_DARK = 0.01
"""Linear radiance added before the logarithm, about the noise of a phone's dark pixels."""
_GRAZING = 0.1
"""Cosine below which directions count as this grazing."""
_EPS = 1e-6  # visibility is a weighted sum and may miss a whole number by rounding


def ratio_channels(directed: bool) -> int:
    """Channels that `ratio_images` returns."""
    if directed:
        return 5
    return 3


def ratio_images(
    views: Float[Tensor, "B V 3 H W"],
    visible: Float[Tensor, "B V 1 H W"],
    directions: Float[Tensor, "B V 3 H W"] | None = None,
    means: Float[Tensor, "B V 3 1 1"] | None = None,
) -> Float[Tensor, "B V C H W"]:
    """Each view's logarithmic ratio to the mean of the views that see the pixel.

    Args:
        views: Aligned views, sRGB-encoded in [0, 1].
        visible: What each view sees, in [0, 1].
        directions: Unit vectors to the lens, taken for the flash's too; None when unknown.
        means: The ratios' means over the frame that the views are a tile of (`ratio_means`); default: over the views.

    Returns:
        Natural logarithms, about -4 to 4, of red, green and blue; with directions flat-field corrected, and two more
        channels: their mean times the light's slopes (l_x / l_z, l_y / l_z). Each view's ratios have mean 0 over the
        frame, which takes its exposure away. What a view does not see is 0, and so is a pixel that one view alone sees.
    """
    ratios, shared = _ratios(views, visible, directions)
    # A view's exposure is one summand for its whole frame, so it cancels against the mean over the frame.
    if means is None:
        means = _mean(ratios, shared, (3, 4))
    ratios = (ratios - means) * shared
    if directions is None:
        return ratios
    slopes = directions[:, :, :2].float() / directions[:, :, 2:].float().clamp_min(_GRAZING)
    return torch.cat((ratios, ratios.mean(dim=2, keepdim=True) * slopes), dim=2)


def ratio_means(
    views: Float[Tensor, "B V 3 H W"],
    visible: Float[Tensor, "B V 1 H W"],
    directions: Float[Tensor, "B V 3 H W"] | None = None,
) -> Float[Tensor, "B V 3 1 1"]:
    """Mean of each view's ratio to the others over a whole frame, for the ratio images of its tiles.

    Args:
        views: The frame, at any resolution.
        visible: As for `ratio_images`.
        directions: As for `ratio_images`.
    """
    return _mean(*_ratios(views, visible, directions), (3, 4))


def _ratios(views: Tensor, visible: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ratios that still contain each view's exposure, and where at least two views see the pixel."""
    logs = (srgb_to_linear(views.float()) + _DARK).log()
    if directions is not None:
        toward = directions[:, :, 2:].float().clamp_min(_GRAZING)
        logs = logs - 3 * toward.log()  # l_z once for the cosine, twice for the distance (see above)
    # The albedo is the same summand in all views, so it cancels against the mean over views.
    ratios = (logs - _mean(logs, visible, 1)) * visible
    # Where one view alone sees a pixel, its ratio to itself says nothing.
    shared = visible * (visible.sum(dim=1, keepdim=True) > 1 + _EPS)
    return ratios, shared


def _mean(values: Tensor, weight: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Weighted mean, as a quotient of means: a sum over a frame has no room in half precision."""
    return (values * weight).mean(dim=dim, keepdim=True) / weight.mean(dim=dim, keepdim=True).clamp_min(_EPS)
