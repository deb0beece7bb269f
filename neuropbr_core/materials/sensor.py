"""From light on the sensor to an 8-bit photo: exposure, white balance, noise, tone curve, sRGB.

Photos are `(V, 3, S, S)` in linear light, 1 is the white of the exposed photo; what is above is a highlight.
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
"""Shorter side of a 12-megapixel sensor in pixels: what a square photo is a crop of before it is shrunk."""
_KNEE = 0.8
"""Linear value from which on the tone curve bends."""
_DARKEST = 1e-3
"""Mean luminance below which auto-exposure gains no more."""


@dataclass(frozen=True)
class Noise:
    """Noise of one sensor pixel at one sensitivity, in units of white.

    Attributes:
        shot: Variance for each unit of light: 1 over the electrons that white collects. At base sensitivity a phone's
            pixel holds 5,000 to 10,000 (1e-4 to 2e-4); each doubling of ISO halves them.
        read: Deviation in the dark.
    """

    shot: float
    read: float


def expose(photos: Float[Tensor, "V 3 S S"], stops: list[float]) -> Float[Tensor, "V 3 S S"]:
    """Change each photo's exposure by a number of stops."""
    return photos * photos.new_tensor([math.exp2(stop) for stop in stops]).view(-1, 1, 1, 1)


def meter(photos: Float[Tensor, "V 3 S S"]) -> Float[Tensor, "V 3 S S"]:
    """Set each photo's mean luminance to middle grey, as a phone left to itself does.

    What outshines white counts as white, or one highlight would darken the whole photo.
    """
    metered = luminance(photos).clamp_max(1).mean(dim=(1, 2, 3), keepdim=True).clamp_min(_DARKEST)
    return photos * (GREY / metered)


def balance(photos: Float[Tensor, "V 3 S S"], warmth: list[float], tint: list[float]) -> Float[Tensor, "V 3 S S"]:
    """Shift each photo's white balance, keeping the luminance of grey.

    Args:
        photos: Linear light.
        warmth: Gain of red over blue in stops; positive is warmer.
        tint: Gain of green over red and blue in stops; positive is greener.
    """
    warm, green = photos.new_tensor(warmth), photos.new_tensor(tint)
    gains = torch.exp2(torch.stack((warm / 2 - green / 2, green / 2, -warm / 2 - green / 2), dim=1))[:, :, None, None]
    return photos * (gains / luminance(gains))


def sample_noise(generator: torch.Generator, *, clean: bool) -> Noise:
    """Draw the noise of a capture.

    Args:
        generator: Source of all randomness, on the CPU.
        clean: ISO 50 to 200; otherwise ISO 200 to 3200, as in dim light.
    """
    doublings = uniform(generator, 0.0, 2.0) if clean else uniform(generator, 2.0, 6.0)
    return Noise(1.5e-4 * math.exp2(doublings), 5e-4 * math.exp2(doublings / 2))


def add_noise(photos: Float[Tensor, "V 3 S S"], noise: Noise, generator: torch.Generator) -> Float[Tensor, "V 3 S S"]:
    """Add shot and read noise (Poisson-Gaussian, in its normal approximation), averaged as a shrunk photo is.

    A photo of side S averages (`SENSOR_SIDE` / S)² sensor pixels into each of its own, which divides the variance.

    Args:
        photos: Linear light; what lies above white saturates and carries no noise.
        noise: Of one sensor pixel.
        generator: Source of the noise, on the CPU.

    Returns:
        Linear light; below 0 in places, as a sensor's is after its black level is subtracted.

    Source: Foi et al. 2008, "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image Raw-Data",
    equations 1 to 4.
    """
    share = min(1.0, (photos.shape[-1] / SENSOR_SIDE) ** 2)
    draws = torch.randn(photos.shape, generator=generator).to(photos.device)
    variance = (noise.shot * photos.clamp(0, 1) + noise.read**2) * share
    return photos + draws * torch.sqrt(variance)


def tone_curve(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bend highlights towards white instead of clipping them; below 0.8 light stays as it is.

    Above the knee k it is k + (1 - k) (1 - exp(-(x - k) / (1 - k))), which joins with slope 1.

    Args:
        linear: Linear light; below 0 it becomes 0.

    Returns:
        Linear light in [0, 1].
    """
    room = 1 - _KNEE
    shoulder = 1 - room * torch.exp(-(linear.clamp_min(_KNEE) - _KNEE) / room)
    return torch.where(linear <= _KNEE, linear.clamp_min(0), shoulder)


def encode_photos(photos: Float[Tensor, "V 3 S S"]) -> UInt8[Tensor, "V 3 S S"]:
    """Apply the tone curve, encode as sRGB, round to 8 bits."""
    return (linear_to_srgb(tone_curve(photos)) * 255).round().to(torch.uint8)
