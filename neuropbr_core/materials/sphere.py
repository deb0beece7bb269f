"""Functions on the sphere of directions, stored as equirectangular images.

z is up: rows run from straight up (the first) to straight down, columns by azimuth from +x towards +y, texel centres at
(i + 0.5) / size.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def directions(height: int, width: int) -> Float[Tensor, "3 H W"]:
    """Unit vectors to the texel centres."""
    polar = ((torch.arange(height) + 0.5) * (math.pi / height))[:, None]
    azimuth = ((torch.arange(width) + 0.5) * (2 * math.pi / width))[None, :]
    return torch.stack(
        (polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos() * torch.ones_like(azimuth))
    )


def solid_angles(height: int, width: int) -> Float[Tensor, "H 1"]:
    """Solid angle in steradians of the texels of each row."""
    edges = torch.cos(torch.linspace(0, math.pi, height + 1, dtype=torch.float64))
    return ((edges[:-1] - edges[1:]) * (2 * math.pi / width)).float()[:, None]


def shrink(image: Float[Tensor, "3 H W"], height: int) -> Float[Tensor, "3 h w"]:
    """Average an image down to `height` rows and twice as many columns, weighted by solid angle.

    An image that has no more rows than that is returned as it is.
    """
    if image.shape[1] <= height:
        return image
    weights = solid_angles(*image.shape[1:]).to(image).expand(1, *image.shape[1:])
    stacked = torch.cat((image * weights, weights))[None]
    averaged = F.interpolate(stacked, size=(height, 2 * height), mode="area")[0]
    return averaged[:3] / averaged[3:]


def soften_poles(image: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Blur rows along azimuth to the resolution that their distance from the poles leaves them.

    Texels near a pole are far narrower than high, so detail there is detail along one direction only: interpolated, it
    shows as spokes. Rows keep their mean.
    """
    height, width = image.shape[1:]
    sine = torch.sin((torch.arange(height, device=image.device) + 0.5) * (math.pi / height))[:, None]
    frequency = torch.arange(width // 2 + 1, device=image.device) / (width / 2)
    passed = torch.exp(-2 * frequency**2 * (1 / sine**2 - 1))
    softened: Tensor = torch.fft.irfft(torch.fft.rfft(image) * passed, n=width)
    return softened.clamp_min(0)


def lobe_spectrum(height: int, width: int, lobe: Callable[[Tensor], Tensor]) -> Tensor:
    """Prepare a lobe that depends on the angle between two directions alone, for `convolve`.

    Args:
        height: Rows of the images.
        width: Columns of the images.
        lobe: Weight by the cosine of the angle, both float64.

    Returns:
        Lobe times solid angle between every two rows, transformed along azimuth, `(H, H, W // 2 + 1)`, float64. Its
        entries at frequency 0 sum to the lobe's integral.
    """
    polar = (torch.arange(height, dtype=torch.float64) + 0.5) * (math.pi / height)
    azimuth = torch.arange(width, dtype=torch.float64) * (2 * math.pi / width)
    upright, level = torch.outer(polar.cos(), polar.cos()), torch.outer(polar.sin(), polar.sin())
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
    """
    result: Tensor = torch.fft.irfft(torch.einsum("ijf,cjf->cif", lobe, image_spectrum), n=width)
    return result


def wrap_columns(images: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W2"]:
    """Add a column of the other end at each side, so that interpolation crosses azimuth 0."""
    return torch.cat((images[..., -1:], images, images[..., :1]), dim=-1)


def turn(wrapped: Float[Tensor, "*batch H W2"], share: float) -> Float[Tensor, "*batch H W2"]:
    """Turn wrapped images about the vertical by a share of the circle, to the nearest column."""
    inner = wrapped[..., 1:-1]
    return wrap_columns(torch.roll(inner, round(share * inner.shape[-1]), dims=-1))


def grid_coordinates(vectors: Float[Tensor, "3 H W"], columns: int) -> tuple[Tensor, Tensor]:
    """Where unit vectors lie in wrapped images of so many columns before wrapping, as `grid_sample` counts.

    Returns:
        Horizontal and vertical coordinates in [-1, 1], each `(H, W)`.
    """
    column = torch.remainder(torch.atan2(vectors[1], vectors[0]) / (2 * math.pi), 1) * columns + 1
    row = torch.acos(vectors[2].clamp(-1, 1)) / math.pi
    return column / (columns + 2) * 2 - 1, row * 2 - 1
