"""What the whole frame reflects, by angle: the evidence for metalness and roughness that no local window holds.

A flash at the lens shows every point of a photo at its own angle, and the highlight at one place alone. So how bright
the frame is at each angle is a slice of the material's BRDF (light and camera in one direction), which falls steeply
for a smooth surface, is level for a matte one, and dark away from the highlight for a metal.

Source: Hui et al. 2017, "Reflectance Capture Using Univariate Sampling of BRDFs" (with light and camera in one place
the angle to the normal alone decides what is seen, and suffices); telling each pixel of the whole frame: the global
track of Deschaintre et al. 2018, "Single-Image SVBRDF Capture with a Rendering-Aware Deep Network", section 4.1.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import OVERVIEW_SIDE, Overview
from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.model.modulation import Modulation

ANGLES = (0, 3, 6, 10, 15, 21, 29, 40, 52)
"""Centres of the intervals, in degrees between the plane's normal and the flash.

The highlight of a mirror is within the first ones; that of a matte varnish fills half of them.
"""
BINS = len(ANGLES)
# Intervals are told apart by the tangent, which is as exact in half precision near 0° as elsewhere; the cosine is not.
_TANGENTS = [math.tan(math.radians(angle)) for angle in ANGLES]
# As in `ratios`: about the noise of a phone's dark pixels, added before the logarithm.
_DARK = 0.01
# Middle grey, whose logarithm becomes 0.
_GREY = 0.18
_FEW = 3e-4
"""Share of the pixels, one of an overview's of three views, at which an interval's values are drawn half to 0."""
_HIDDEN = 64
_DROPOUT = 0.1
# Deviations (about 0.25) and shares (about 0.2) are scaled to the range of the means.
_SPREAD_SCALE = 4.0
_SHARE_SCALE = 5.0
_NEAR = 0.3
"""Weight within an interval from which a pixel counts for the interval's brightest."""
# Below the logarithm of any pixel, so that pixels outside an interval are never its brightest.
_DARKEST = -4.0
PROFILE_CHANNELS = BINS * 8 + 3


def overview_of(
    views: Float[Tensor, "B V 3 H W"], visible: Float[Tensor, "B V 1 H W"], directions: Float[Tensor, "B V 3 H W"]
) -> Overview:
    """Average a whole frame down to about `OVERVIEW_SIDE` pixels a side; what a view does not see does not count."""
    share = _pool(visible)
    # Hidden pixels are 0 before the mean, and the division takes them out of it.
    return Overview(_pool(views * visible) / share.clamp_min(1e-6), share, _pool(directions))


def reflectance_profile(overview: Overview) -> Float[Tensor, "B channels"]:
    """Reflectance of a frame by the angle between normal of the plane and flash.

    Args:
        overview: The whole frame, any number of views.

    Returns:
        For each of the overlapping intervals around `ANGLES`: mean and deviation of the logarithm of linear red, green
        and blue, flat-field corrected as in `ratios` and 0 for middle grey, the share of all pixels that lie there, and
        by how much the brightest of them exceeds their mean; then the means over the frame. A mirror's highlight is a
        pixel or two of the overview, which no mean shows. Deviations and shares are scaled to the size of the means. An
        interval that nothing shows is 0, and one that next to nothing shows is close to it.
    """
    toward = overview.directions[:, :, 2:].float().clamp_min(0.1)
    logs = (srgb_to_linear(overview.views.float()) + _DARK).log() - 3 * toward.log()
    values = (logs - math.log(_GREY)).transpose(1, 2).flatten(2)[:, None]
    visibility = overview.visible.float().transpose(1, 2).flatten(2)
    # Overlapping triangles instead of steps: a small change of an angle then makes a small change of the profile.
    tangent = overview.directions[:, :, :2].float().square().sum(dim=2, keepdim=True).sqrt() / toward
    near = _interval_weights(tangent.transpose(1, 2).flatten(2)) * visibility
    mean, deviation, share = _moments(values, near)
    overall, _, _ = _moments(values, visibility)
    brightness = values.mean(dim=2)
    counts = (near > _NEAR).float()
    brightest = ((brightness - _DARKEST) * counts).amax(dim=2) + _DARKEST
    # Where no pixel counts, there is no contrast.
    contrast = (brightest - mean.mean(dim=2)) * counts.amax(dim=2)
    parts = (mean.flatten(1), _SPREAD_SCALE * deviation.flatten(1), _SHARE_SCALE * share, contrast, overall[:, 0])
    return torch.cat(parts, dim=1)


def _interval_weights(tangent: Float[Tensor, "B 1 N"]) -> Float[Tensor, "B bins N"]:
    """Weight of each pixel in each interval: 1 at its centre, falling linearly to 0 at the neighbours' centres."""
    weights = []
    for index, centre in enumerate(_TANGENTS):
        weight = torch.ones_like(tangent)
        if index > 0:
            below = _TANGENTS[index - 1]
            weight = torch.minimum(weight, (tangent - below) / (centre - below))
        # Beyond the last centre everything belongs to the last interval.
        if index + 1 < BINS:
            above = _TANGENTS[index + 1]
            weight = torch.minimum(weight, (above - tangent) / (above - centre))
        weights.append(weight.clamp_min(0))
    return torch.cat(weights, dim=1)


def _moments(values: Float[Tensor, "B 1 3 N"], weights: Float[Tensor, "B K N"]) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted mean and deviation `(B, K, 3)`, mean weight `(B, K)`; elementwise, so that autocast keeps out of it."""
    total = weights.sum(dim=2)
    share = weights[:, :, None] / (total + _FEW * weights.shape[2])[:, :, None, None]
    mean = (share * values).sum(dim=3)
    variance = (share * (values - mean[..., None]).square()).sum(dim=3)
    return mean, (variance + 1e-6).sqrt() - 1e-3, total / weights.shape[2]


class ProfilePath(nn.Module):
    """Scales and shifts the fused latent, and the features before the heads, by the frame's reflectance profile.

    Starts as the identity.

    Args:
        latent_channels: Channels of the fused latent.
        feature_channels: Channels of the features before the heads.
    """

    def __init__(self, latent_channels: int, feature_channels: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(PROFILE_CHANNELS, _HIDDEN),
            nn.GELU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.GELU(),
        )
        self.on_latent = Modulation(_HIDDEN, latent_channels)
        self.on_features = Modulation(_HIDDEN, feature_channels)

    def forward(self, overview: Overview) -> Float[Tensor, "B hidden"]:
        """What both modulations are conditioned on."""
        condition: Tensor = self.hidden(reflectance_profile(overview))
        return condition


def _pool(values: Float[Tensor, "B V C H W"]) -> Float[Tensor, "B V C h w"]:
    height, width = values.shape[-2:]
    kernel = (max(1, height // OVERVIEW_SIDE), max(1, width // OVERVIEW_SIDE))
    pooled = F.avg_pool2d(values.flatten(0, 1), kernel)
    return pooled.view(*values.shape[:2], *pooled.shape[1:])
