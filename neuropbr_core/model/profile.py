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
from neuropbr_core.model.decoder import Modulation

BINS = 8
_STEEPEST = 0.6
"""Cosine of the largest angle that has a bin, 53°."""
# As in `ratios`: about the noise of a phone's dark pixels, added before the logarithm.
_DARK = 0.01
# Middle grey, whose logarithm becomes 0.
_GREY = 0.18
_FEW = 1e-3
"""Share of the pixels, three of an overview's of three views, at which an interval's values are drawn half to 0."""
_HIDDEN = 64
_DROPOUT = 0.1
# Deviations (about 0.25) and shares (about 0.2) are scaled to the range of the means.
_SPREAD_SCALE = 4.0
_SHARE_SCALE = 5.0
PROFILE_CHANNELS = BINS * 7 + 3


def overview_of(
    views: Float[Tensor, "B V 3 H W"], visible: Float[Tensor, "B V 1 H W"], directions: Float[Tensor, "B V 3 H W"]
) -> Overview:
    """Average a whole frame down to about `OVERVIEW_SIDE` pixels a side; what a view does not see does not count."""
    share = _pool(visible)
    # Hidden pixels are 0 before the mean, and the division takes them out of it.
    return Overview(_pool(views * visible) / share.clamp_min(1e-6), share, _pool(directions))


def reflectance_profile(overview: Overview) -> Float[Tensor, "B channels"]:
    """Reflectance of a frame by the cosine between normal of the plane and flash.

    Args:
        overview: The whole frame, any number of views.

    Returns:
        For each of `BINS` overlapping intervals of the cosine, from 0.6 to 1: mean and deviation of the logarithm of
        linear red, green and blue, flat-field corrected as in `ratios` and 0 for middle grey, and the share of all
        pixels that lie there; then the means over the frame. Deviations and shares are scaled to the size of the means.
        An interval that nothing shows is 0, and one that next to nothing shows is close to it.
    """
    toward = overview.directions[:, :, 2:].float().clamp_min(0.1)
    logs = (srgb_to_linear(overview.views.float()) + _DARK).log() - 3 * toward.log()
    values = (logs - math.log(_GREY)).transpose(1, 2).flatten(2)[:, None]
    visibility = overview.visible.float().transpose(1, 2).flatten(2)
    # Overlapping triangles instead of steps: a small change of an angle then makes a small change of the profile.
    centres = torch.linspace(_STEEPEST, 1, BINS, device=toward.device).view(1, BINS, 1)
    near = (1 - (toward.transpose(1, 2).flatten(2) - centres).abs() * ((BINS - 1) / (1 - _STEEPEST))).clamp_min(0)
    mean, deviation, share = _moments(values, near * visibility)
    overall, _, _ = _moments(values, visibility)
    return torch.cat(
        (mean.flatten(1), _SPREAD_SCALE * deviation.flatten(1), _SHARE_SCALE * share, overall[:, 0]), dim=1
    )


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
