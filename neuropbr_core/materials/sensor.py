"""From light on the sensor to an 8-bit photo: exposure, white balance, noise, tone curve, sRGB.

Photos are `(V, 3, S, S)` in linear light. 1 is the white of the exposed photo; values above 1 are highlights.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from neuropbr_core.materials.color import linear_to_srgb, luminance
from neuropbr_core.materials.sampling import uniform

GREY = 0.18
"""Linear value that exposure gives to middle grey."""
SENSOR_SIDE = 3000
"""Shorter side of a 12-megapixel sensor in pixels. A square photo is a crop of this side, shrunk."""
# Linear value above which the tone curve bends.
_KNEE = 0.8
# Mean luminance below which automatic exposure stops brightening: a black photo stays black.
_DARKEST = 1e-3


@dataclass(frozen=True)
class Noise:
    """Noise of one sensor pixel at one sensitivity, in units of white.

    Attributes:
        shot: Variance for each unit of light: 1 divided by the number of electrons that white collects. At base
            sensitivity a phone's pixel collects 5,000 to 10,000 (1e-4 to 2e-4); each doubling of ISO halves them.
        read: Standard deviation in the dark.
    """

    shot: float
    read: float


def expose(photos: Float[Tensor, "V 3 S S"], stops: list[float]) -> Float[Tensor, "V 3 S S"]:
    """Change each photo's exposure.

    Args:
        photos: Linear light.
        stops: Change of each photo, in factors of two.

    Returns:
        Linear light, unclipped.
    """
    return photos * photos.new_tensor([math.exp2(stop) for stop in stops]).view(-1, 1, 1, 1)


def meter(photos: Float[Tensor, "V 3 S S"]) -> Float[Tensor, "V 3 S S"]:
    """Set each photo's mean luminance to middle grey, as a phone's automatic exposure does.

    Args:
        photos: Linear light.

    Returns:
        Linear light with mean luminance 0.18, apart from highlights and nearly black photos.
    """
    # Anything brighter than white counts as white, or one highlight would darken the whole photo.
    metered = luminance(photos).clamp_max(1).mean(dim=(1, 2, 3), keepdim=True).clamp_min(_DARKEST)
    return photos * (GREY / metered)


def balance(photos: Float[Tensor, "V 3 S S"], warmth: list[float], tint: list[float]) -> Float[Tensor, "V 3 S S"]:
    """Shift each photo's white balance, keeping the luminance of grey.

    Args:
        photos: Linear light.
        warmth: Gain of red over blue in stops, one for each photo; positive is warmer.
        tint: Gain of green over red and blue in stops, one for each photo; positive is greener.

    Returns:
        Linear light.
    """
    warm = photos.new_tensor(warmth)
    green = photos.new_tensor(tint)
    gains = torch.exp2(torch.stack((warm / 2 - green / 2, green / 2, -warm / 2 - green / 2), dim=1))[:, :, None, None]
    return photos * (gains / luminance(gains))


def sample_noise(generator: torch.Generator, *, clean: bool) -> Noise:
    """Draw the noise of a capture.

    Args:
        generator: Source of all randomness, on the CPU.
        clean: Whether the sensitivity is low, ISO 50 to 200; otherwise it is ISO 200 to 3200, as in dim light.

    Returns:
        Noise of one sensor pixel.
    """
    doublings = uniform(generator, 0.0, 2.0) if clean else uniform(generator, 2.0, 6.0)
    # 1.5e-4 is 6,700 electrons. Read noise grows more slowly than the gain, because part of it is added after the gain.
    return Noise(1.5e-4 * math.exp2(doublings), 5e-4 * math.exp2(doublings / 2))


def add_noise(photos: Float[Tensor, "V 3 S S"], noise: Noise, generator: torch.Generator) -> Float[Tensor, "V 3 S S"]:
    """Add shot and read noise (Poisson-Gaussian, in its normal approximation), averaged as a shrunk photo is.

    A photo of side S averages (`SENSOR_SIDE` / S)² sensor pixels into each of its own, which divides the variance.

    Args:
        photos: Linear light. Values above white saturate: their noise does not grow further.
        noise: Noise of one sensor pixel.
        generator: Source of the noise, on the CPU.

    Returns:
        Linear light. Some values are below 0, as those of a sensor are after its black level is subtracted.

    Source: Foi et al. 2008, "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data",
    equations 1 to 4.
    """
    share = min(1.0, (photos.shape[-1] / SENSOR_SIDE) ** 2)
    draws = torch.randn(photos.shape, generator=generator).to(photos.device)
    variance = (noise.shot * photos.clamp(0, 1) + noise.read**2) * share
    return photos + draws * torch.sqrt(variance)


def tone_curve(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bend highlights towards white instead of clipping them.

    Below the knee k = 0.8 the curve is the identity. Above, it is k + (1 - k) (1 - exp(-(x - k) / (1 - k))), which
    continues with slope 1 and approaches 1. The curve is this project's own.

    Args:
        linear: Linear light; negative values become 0.

    Returns:
        Linear light in [0, 1].
    """
    room = 1 - _KNEE
    shoulder = 1 - room * torch.exp(-(linear.clamp_min(_KNEE) - _KNEE) / room)
    return torch.where(linear <= _KNEE, linear.clamp_min(0), shoulder)


def encode_photos(photos: Float[Tensor, "V 3 S S"]) -> UInt8[Tensor, "V 3 S S"]:
    """Apply the tone curve, encode as sRGB and round to 8 bits.

    Args:
        photos: Linear light, unclipped.

    Returns:
        sRGB-encoded values, 0 to 255.
    """
    return (linear_to_srgb(tone_curve(photos)) * 255).round().to(torch.uint8)
