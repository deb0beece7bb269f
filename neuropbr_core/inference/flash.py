"""Whether photos were taken with a flash, as their brightness tells, and what can be said without one."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.materials.alignment import identity_frame, view_directions
from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.model.merge import visible_median

LEAST_FLASH = 0.3
"""Share of the falloff of a flash below which there was none. In rendered captures of all example materials, 30 of 30
with a flash had more, and 26 of 30 without one had less; the others were polished, and showed lamps."""
LEAST_EVIDENCE = 0.5
"""`FlashShare.evidence` above which a small share counts. In the captures of `docs/refinement.md`, 30 of 31 without a
flash are told by it, the last one of polished metal, and none of 73 with one; without this limit, two of these were: a
metal, and far cameras."""
USUAL_AMBIENT = 0.18
"""Share of the light that comes from around in a usual flash photo, the middle of what captures are rendered with."""
BENT = 0.85
"""sRGB value from which phones bend their highlights."""
CLIPPED = 0.98
"""sRGB value from which a pixel may have been brighter."""
_DARK = 0.02  # sRGB value up to which noise is as large as the signal
_LEAST_COMMON = 0.2  # share of the frame that two views must both show well to be compared
_EPS = 1e-4


class FlashShare(NamedTuple):
    """How much of the light came from a flash at the lens.

    Attributes:
        share: About 1 when the flash gives all light, more on polished surfaces, about 0 without a flash.
        evidence: (0.82 - share) × the deviation of a flash's falloff / that of the views' differences, both in
            logarithms: how far the views are from showing a usual flash. Highlights, lamps and noise make views differ,
            too; where they outweigh what a flash would do, this is about 0. It has no upper limit.
    """

    share: float
    evidence: float

    @property
    def is_missing(self) -> bool:
        """Whether the views were taken without a flash."""
        return self.share < LEAST_FLASH and self.evidence > LEAST_EVIDENCE


def flash_share(views: Tensor, visible: Tensor, positions: Tensor) -> FlashShare | None:
    """Estimate how much of the light came from a flash at the lens.

    A flash lights a place by cos θ / d². Between two views of one place, the logarithm of this quotient is known, and
    the colour of the surface cancels; the share is the slope of the measured quotients over the known ones.

    Args:
        views: Views of the whole texture, aligned, sRGB-encoded in [0, 1], `(V, 3, S, S)`.
        visible: `(V, 1, S, S)`, 1 where a view shows the texture.
        positions: Cameras `(V, 3)` in tile sides.

    Returns:
        The share, and how far to trust it; None when too few pixels can be compared.
    """
    size = views.shape[-1]
    brightness = (srgb_to_linear(views).mean(dim=1) + _EPS).log()
    cosines = view_directions(positions[None], identity_frame(1), size)[0, :, 2]
    # The camera's height above the plane divided by the cosine is its distance from the pixel.
    distances = positions[:, 2, None, None].float() / cosines
    falloff = (cosines / distances.square()).log()
    good = (visible[:, 0] > 0) & (views.amax(dim=1) < CLIPPED) & (views.amin(dim=1) > _DARK)
    covariance = torch.zeros(())
    variance = torch.zeros(())
    total = torch.zeros(())
    for first in range(len(views)):
        for second in range(first):
            common = good[first] & good[second]
            if common.float().mean() < _LEAST_COMMON:
                continue
            measured = (brightness[first] - brightness[second])[common]
            expected = (falloff[first] - falloff[second])[common]
            # Without their means: exposure may change from photo to photo.
            expected = expected - expected.mean()
            measured = measured - measured.mean()
            covariance = covariance + (measured * expected).sum()
            variance = variance + expected.square().sum()
            total = total + measured.square().sum()
    if variance == 0:
        return None
    share = covariance / variance
    # Both as deviations: of what a usual flash would do beyond the share, and of what is there.
    evidence = (1 - USUAL_AMBIENT - share) * (variance / total.clamp_min(_EPS * variance)).sqrt()
    return FlashShare(float(share), float(evidence))


def lacks_flash(views: Tensor, visible: Tensor, positions: Tensor, fired: bool | None = None) -> bool:
    """Whether views were taken without a flash at the lens.

    Args:
        views: See `flash_share`.
        visible: See `flash_share`.
        positions: See `flash_share`.
        fired: Whether the camera's flash fired, as the files tell. It decides only where the views cannot be compared:
            a phone's lamp that burns all the time is no flash to its camera, but as good as one.
    """
    share = flash_share(views.float().cpu(), visible.float().cpu(), positions.float().cpu())
    # One photo cannot tell how its light falls off. Without a word from the camera, photos are taken as they should be.
    if share is None:
        return fired is False
    return share.is_missing


def without_flash(maps: Maps, views: Float[Tensor, "1 V 3 h w"], visible: Float[Tensor, "1 V 1 h w"]) -> Maps:
    """Maps that say no more than a model that knows flash photos alone can know of photos without a flash.

    The albedo is halfway between the predicted one and the median of the views, where one shows the place, and the
    roughness halfway to 0.5.
    Metallic is squared, so that little is left of what the model is not sure of. Normals point straight up.

    In captures without a flash of the eight materials of the development list (`benchmarks/refinement.py`), this makes
    the albedo 0.1 dB better than the median (0.1 dB worse as predicted), and the error of metallic 0.94 times that of
    no metal (1.22 times). Predicted normals are 1.5 times as wrong as flat ones there.

    Args:
        maps: Predicted maps.
        views: Views of the whole texture, aligned, sRGB-encoded in [0, 1].
        visible: 1 where a view shows the texture.
    """
    albedo = maps["albedo"]
    seen = (visible.amax(dim=1) > 0).to(albedo)
    # Compared at the size of the views, so that larger maps keep their detail.
    size = views.shape[-2:]
    shown = F.interpolate(albedo, size=size, mode="bilinear", antialias=True)
    missing = (visible_median(views, visible).to(albedo) - shown) * seen
    missing = F.interpolate(missing, size=albedo.shape[-2:], mode="bilinear", antialias=True)
    normal = torch.zeros_like(maps["normal"])
    normal[:, 2] = 1
    return {
        **maps,
        "albedo": albedo + missing / 2,
        "roughness": (maps["roughness"] + 0.5) / 2,
        "metallic": maps["metallic"].square(),
        "normal": normal,
    }
