"""Effects of a lens on a photo: vignetting, defocus, shake, and the glare of grease and scratches.

Photos are `(V, 3, S, S)` in unclipped linear light, so that highlights spread all the light that they have. Lengths are
in sides of the photo. Every blur preserves the amount of light, except at the photo's edges, whose pixels are repeated
outwards.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# Points along each side of a pixel when a small kernel is drawn: a disc of few pixels would otherwise be a square.
_FINE = 3


def vignette(photos: Float[Tensor, "V 3 S S"], falloff: float) -> Float[Tensor, "V 3 S S"]:
    """Darken towards the corners.

    Args:
        photos: Linear light.
        falloff: tan² of the angle between the corners' rays and the optical axis; the corners keep
            1 / (1 + falloff)² of their light. An uncorrected 28 mm equivalent has 0.24 in the corners of the square
            crop; phones correct most of it.

    Returns:
        Linear light; the centre is unchanged.

    Source: the cos⁴ law of natural vignetting, written with cos² = 1 / (1 + tan²).
    """
    size = photos.shape[-1]
    steps = ((torch.arange(size, device=photos.device) + 0.5) / size - 0.5) ** 2
    # Squared distance from the centre, 1 in the corners.
    squared = (steps[:, None] + steps[None, :]) * 2
    return photos / (1 + falloff * squared) ** 2


def defocus(photos: Float[Tensor, "V 3 S S"], radius: float) -> Float[Tensor, "V 3 S S"]:
    """Blur with a disc, as a plane out of focus is blurred.

    Args:
        photos: Linear light.
        radius: Radius of the circle of confusion, in sides of the photo; 0 to 0.006 (6 pixels of 1024).

    Returns:
        Linear light.

    Source: geometrical optics of a thin lens with a round aperture: a point out of focus becomes a uniform disc.
    """
    pixels = radius * photos.shape[-1]
    reach = math.ceil(pixels + 1)
    x, y = _fine_grid(reach)
    # At least one fine point must be inside, or the kernel would sum to 0.
    inside = ((x * x + y * y).sqrt() <= max(pixels, 1 / _FINE)).to(torch.float32)
    return _blur(photos, F.avg_pool2d(inside[None, None], _FINE)[0, 0])


def shake(photos: Float[Tensor, "V 3 S S"], length: float, angle: float) -> Float[Tensor, "V 3 S S"]:
    """Blur along a line, as a hand that moves during the exposure blurs.

    Args:
        photos: Linear light.
        length: Length of the path, in sides of the photo; 0 to 0.012.
        angle: Angle of the path, in radians from the right towards the bottom.

    Returns:
        Linear light.
    """
    half = length * photos.shape[-1] / 2
    reach = math.ceil(half + 1)
    x, y = _fine_grid(reach)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    # The line is one pixel wide, and at least one long: a shorter path moves no light.
    path = ((along.abs() <= max(half, 0.5)) & (across.abs() <= 0.5)).to(torch.float32)
    return _blur(photos, F.avg_pool2d(path[None, None], _FINE)[0, 0])


def haze(photos: Float[Tensor, "V 3 S S"], share: float, radius: float) -> Float[Tensor, "V 3 S S"]:
    """Spread a share of the light widely: the veiling glare of grease on the lens.

    Grease is far out of focus, so it hazes every part of the photo alike. The spread light falls off with a long tail.

    Args:
        photos: Linear light.
        share: Share of the light that is spread, 0 to 1; a clean lens spreads 0.01, a smeared lens 0.1 to 0.3.
        radius: Radius at which the spread light has fallen to about a third of its centre's, in sides of the photo,
            0.02 to 0.3.

    Returns:
        Linear light.

    Source: the profile (1 + (r / radius)²)^-1.5 of Moffat 1969, "A Theoretical Investigation of Focal Stellar Images".
    """
    x, y = _offsets(photos)
    return _spread(photos, (1 + (x * x + y * y) / (radius * radius)) ** -1.5, share)


def streak(photos: Float[Tensor, "V 3 S S"], share: float, length: float, angle: float) -> Float[Tensor, "V 3 S S"]:
    """Drag a share of the light out along a line, as scratches or grease wiped in one direction do.

    Parallel grooves diffract light across themselves, so highlights grow rays on two sides. The rays' exponential
    profile is chosen by eye.

    Args:
        photos: Linear light.
        share: Share of the light that goes into the rays, 0 to 0.2.
        length: Distance at which a ray has fallen to 1 / e, in sides of the photo, 0.05 to 0.5.
        angle: Angle of the rays, in radians from the right towards the bottom.

    Returns:
        Linear light.
    """
    x, y = _offsets(photos)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    # A pixel and a half wide at the highlight; rays fan out with the distance.
    width = 1.5 / photos.shape[-1] + 0.05 * along.abs()
    return _spread(photos, torch.exp(-along.abs() / length - (across / width) ** 2), share)


def _fine_grid(reach: int) -> tuple[Tensor, Tensor]:
    """Offsets in pixels of the points in the pixels up to `reach` from the middle one."""
    count = (2 * reach + 1) * _FINE
    steps = (torch.arange(count) + 0.5) / _FINE - count / (2 * _FINE)
    return steps[None, :], steps[:, None]


def _blur(photos: Float[Tensor, "V 3 S S"], kernel: Float[Tensor, "K K"]) -> Float[Tensor, "V 3 S S"]:
    """Convolve every channel with a small kernel, made to sum to 1."""
    weights = (kernel / kernel.sum()).to(photos).expand(3, 1, *kernel.shape)
    return F.conv2d(F.pad(photos, [kernel.shape[0] // 2] * 4, mode="replicate"), weights, groups=3)


def _offsets(photos: Float[Tensor, "V 3 S S"]) -> tuple[Tensor, Tensor]:
    """Compute offsets in sides of the doubled photo, in the order of FFTs: from 0 outwards, then the negative ones.

    Returns:
        Horizontal `(1, 2S)` and vertical `(2S, 1)` offsets.
    """
    size = photos.shape[-1]
    steps = torch.fft.fftfreq(2 * size, 1 / (2 * size), device=photos.device) / size
    return steps[None, :], steps[:, None]


def _spread(photos: Float[Tensor, "V 3 S S"], kernel: Float[Tensor, "D D"], share: float) -> Float[Tensor, "V 3 S S"]:
    """Replace a share of the light by the photo convolved with a large kernel."""
    size = photos.shape[-1]
    near = size // 2
    far = size - near
    # Doubling the photo keeps the periodic convolution from bringing light in from the opposite edge.
    padded = F.pad(photos, [near, far, near, far], mode="replicate")
    spectrum = torch.fft.rfft2(kernel / kernel.sum())
    spread = torch.fft.irfft2(torch.fft.rfft2(padded) * spectrum, s=padded.shape[-2:])
    kept = spread[..., near : near + size, near : near + size]
    # The FFT leaves small negative values around highlights.
    return torch.lerp(photos, kept.clamp_min(0), share)
