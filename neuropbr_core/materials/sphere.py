"""Functions on the sphere of directions, stored as equirectangular images.

z is up. Rows run from straight up (the first) to straight down, and columns run by azimuth from +x towards +y. Texel
centres are at (i + 0.5) / size.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def directions(height: int, width: int) -> Float[Tensor, "3 H W"]:
    """Return unit vectors to the texel centres.

    Args:
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        Unit vectors (x, y, z), float32 on the CPU.
    """
    polar = ((torch.arange(height) + 0.5) * (math.pi / height))[:, None]
    azimuth = ((torch.arange(width) + 0.5) * (2 * math.pi / width))[None, :]
    return torch.stack(
        (polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos() * torch.ones_like(azimuth))
    )


def solid_angles(height: int, width: int) -> Float[Tensor, "H 1"]:
    """Return the solid angle of a texel of each row.

    Args:
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        Solid angles in steradians, which sum to 4π over all texels; float32 on the CPU.

    Source: the area of a spherical zone, 2π (cos θ₁ - cos θ₂), divided among the columns.
    """
    # In float64: the differences of neighbouring cosines lose digits near the poles.
    edges = torch.cos(torch.linspace(0, math.pi, height + 1, dtype=torch.float64))
    return ((edges[:-1] - edges[1:]) * (2 * math.pi / width)).float()[:, None]


def shrink(image: Float[Tensor, "3 H W"], height: int) -> Float[Tensor, "3 h w"]:
    """Average an image down to `height` rows and twice as many columns, weighted by solid angle.

    Args:
        image: Values by direction, such as linear radiance.
        height: Rows wanted.

    Returns:
        The smaller image; the image itself if it has no more rows than `height`.
    """
    if image.shape[1] <= height:
        return image
    weights = solid_angles(*image.shape[1:]).to(image).expand(1, *image.shape[1:])
    # One interpolation averages values and weights alike, so their quotient is the weighted mean of any block.
    stacked = torch.cat((image * weights, weights))[None]
    averaged = F.interpolate(stacked, size=(height, 2 * height), mode="area")[0]
    return averaged[:3] / averaged[3:]


def soften_poles(image: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Blur rows along azimuth in proportion to how narrow their texels are.

    Texels near a pole are far narrower than high, so their detail is detail along one direction only, which shows as
    spokes when interpolated. Each row keeps its mean.

    Args:
        image: Values by direction, at least 0.

    Returns:
        The softened image, at least 0.
    """
    height, width = image.shape[1:]
    sine = torch.sin((torch.arange(height, device=image.device) + 0.5) * (math.pi / height))[:, None]
    frequency = torch.arange(width // 2 + 1, device=image.device) / (width / 2)
    # A Gaussian whose variance in texels is proportional to 1 / sin² - 1: nothing at the horizon, most at the poles.
    passed = torch.exp(-2 * frequency**2 * (1 / sine**2 - 1))
    softened: Tensor = torch.fft.irfft(torch.fft.rfft(image) * passed, n=width)
    return softened.clamp_min(0)


def lobe_spectrum(height: int, width: int, lobe: Callable[[Tensor], Tensor]) -> Tensor:
    """Prepare a lobe for `convolve` that depends only on the angle between two directions.

    Args:
        height: Rows of the images.
        width: Columns of the images.
        lobe: Function from the cosine of the angle to the weight, both float64.

    Returns:
        Lobe times solid angle between every two rows, transformed along azimuth, `(H, H, W // 2 + 1)`, float64. Its
        entries at frequency 0 sum to the lobe's integral.

    Source: the spherical law of cosines, cos γ = cos θ₁ cos θ₂ + sin θ₁ sin θ₂ cos Δφ.
    """
    polar = (torch.arange(height, dtype=torch.float64) + 0.5) * (math.pi / height)
    azimuth = torch.arange(width, dtype=torch.float64) * (2 * math.pi / width)
    upright = torch.outer(polar.cos(), polar.cos())
    level = torch.outer(polar.sin(), polar.sin())
    cosine = upright[..., None] + level[..., None] * azimuth.cos()
    weight = lobe(cosine) * solid_angles(height, width)[None].double()
    spectrum: Tensor = torch.fft.rfft(weight)
    return spectrum


def convolve(image_spectrum: Tensor, lobe: Tensor, width: int) -> Float[Tensor, "3 H W"]:
    """Integrate an image times a lobe around every texel, over all texels.

    The weight depends on the difference of azimuths alone, so rows are convolved by FFT.

    Args:
        image_spectrum: `torch.fft.rfft` of the image, `(3, H, W // 2 + 1)`.
        lobe: From `lobe_spectrum`, complex64.
        width: Columns of the image.

    Returns:
        The integral around each texel, in the image's unit times steradians.

    Source: the convolution theorem, along azimuth.
    """
    result: Tensor = torch.fft.irfft(torch.einsum("ijf,cjf->cif", lobe, image_spectrum), n=width)
    return result


def wrap_columns(images: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W2"]:
    """Repeat the first and the last column at the opposite ends, so that interpolation crosses azimuth 0.

    Args:
        images: Images by direction.

    Returns:
        Images with two more columns.
    """
    return torch.cat((images[..., -1:], images, images[..., :1]), dim=-1)


def turn(wrapped: Float[Tensor, "*batch H W2"], share: float) -> Float[Tensor, "*batch H W2"]:
    """Turn wrapped images about the vertical, to the nearest column.

    Args:
        wrapped: Images from `wrap_columns`.
        share: Turn as a share of the full circle, counter-clockwise seen from above.

    Returns:
        Turned images, wrapped again.
    """
    inner = wrapped[..., 1:-1]
    return wrap_columns(torch.roll(inner, round(share * inner.shape[-1]), dims=-1))


def grid_coordinates(vectors: Float[Tensor, "3 H W"], columns: int) -> tuple[Tensor, Tensor]:
    """Compute the coordinates of unit vectors in wrapped images, for `grid_sample`.

    Args:
        vectors: Unit vectors.
        columns: Columns of the images before wrapping.

    Returns:
        Horizontal and vertical coordinates in [-1, 1], each `(H, W)`.
    """
    # One column is added because the image starts with a repeated one.
    column = torch.remainder(torch.atan2(vectors[1], vectors[0]) / (2 * math.pi), 1) * columns + 1
    # Rounding may take a unit vector's z above 1, where `acos` is NaN.
    row = torch.acos(vectors[2].clamp(-1, 1)) / math.pi
    return column / (columns + 2) * 2 - 1, row * 2 - 1
