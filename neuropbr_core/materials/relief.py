"""Relief: heights from normals, normals from heights, and maps that follow from heights.

Heights are in sides of the texture, so that they do not depend on its resolution. None of these maps is measured; a
file that holds one must be named as derived.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.vectors import unit

_SHORTEST_Z = 0.05
"""Smallest z of a normal that is divided by: a slope of 20. Steeper ones would tear the whole height map."""

_HORIZON_DIRECTIONS = 16
_HORIZON_RADIUS = 1 / 8
"""How far occluders are looked for, in sides of the texture."""
_HORIZON_SIDE = 1024
"""Largest side on which horizons are computed; finer detail is the cavity map's, and time grows with the texels."""
_HORIZON_GROWTH = 1.2
"""Ratio of a distance to the one before it. Far occluders are wide, or do not matter."""

_DETAIL = 1 / 128
"""Standard deviation of the blur that cavities and edges are measured against, in sides of the texture."""
_CONTRAST = 8.0
"""Strength of cavities and edges: a height of 1/8 of the blur's deviation below the blur gives 1 - 1/e."""


def slopes_from_normals(normals: Float[Tensor, "3 H W"]) -> Float[Tensor, "2 H W"]:
    """Compute how height changes to the right and down.

    Args:
        normals: Unit normals, OpenGL (+Y up).

    Returns:
        Slopes dh/dx and dh/dy with y pointing down; heights and lengths have the same unit.
    """
    z = normals[2].clamp_min(_SHORTEST_Z)
    return torch.stack((-normals[0] / z, normals[1] / z))


def normals_from_slopes(slopes: Float[Tensor, "2 H W"]) -> Float[Tensor, "3 H W"]:
    """Compute unit normals, OpenGL (+Y up): the inverse of `slopes_from_normals`.

    Args:
        slopes: dh/dx and dh/dy with y pointing down.
    """
    return unit(torch.stack((-slopes[0], slopes[1], torch.ones_like(slopes[0]))))


def integrate_slopes(slopes: Float[Tensor, "2 H W"], *, periodic: bool) -> Float[Tensor, "H W"]:
    """Find the height map whose slopes are nearest to the given ones, in the sense of least squares.

    The difference of two neighbouring heights shall be the mean of their slopes. Its normal equations are a Poisson
    equation, which is diagonal in Fourier terms for a texture that tiles, and in cosine terms for one that does not.

    Args:
        slopes: dh/dx and dh/dy with y pointing down.
        periodic: Whether the texture tiles. The height then tiles too, so the mean slope is lost.

    Returns:
        Heights in sides of the texture, with a mean of 0, in the dtype of `slopes`.

    Source: Frankot and Chellappa 1988, "A Method for Enforcing Integrability in Shape from Shading Algorithms", with
    the transfer function of finite differences; Simchony et al. 1990, "Direct Analytical Methods for Solving Poisson
    Equations in Computer Vision Problems", for borders that are free.
    """
    height, width = slopes.shape[-2:]
    # The step between a texel and the next one to the right, and down. The last step crosses the border.
    right = (slopes[0] + slopes[0].roll(-1, 1)) / (2 * width)
    down = (slopes[1] + slopes[1].roll(-1, 0)) / (2 * height)
    if not periodic:
        right[:, -1] = 0
        down[-1] = 0
    divergence = right - right.roll(1, 1) + down - down.roll(1, 0)
    del right, down
    if periodic:
        spectrum = torch.fft.rfft2(divergence)
        rows = _laplacian(torch.arange(height), 2 * math.pi / height)
        columns = _laplacian(torch.arange(spectrum.shape[1]), 2 * math.pi / width)
    else:
        spectrum = _cosine(_cosine(divergence).T).T
        rows = _laplacian(torch.arange(height), math.pi / height)
        columns = _laplacian(torch.arange(width), math.pi / width)
    eigenvalues = (rows[:, None] + columns[None]).to(divergence)
    # The constant is free: slopes do not tell it.
    eigenvalues[0, 0] = 1
    spectrum = spectrum / eigenvalues
    spectrum[0, 0] = 0
    if periodic:
        solution: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
        return solution
    return _inverse_cosine(_inverse_cosine(spectrum.T).T)


def heights_from_normals(normals: Float[Tensor, "3 H W"], *, periodic: bool) -> Float[Tensor, "H W"]:
    """Integrate normals to heights.

    Args:
        normals: Unit normals, OpenGL (+Y up).
        periodic: Whether the texture tiles.

    Returns:
        Heights in sides of the texture, the lowest being 0.
    """
    heights = integrate_slopes(slopes_from_normals(normals), periodic=periodic)
    return heights - heights.min()


def slopes_from_heights(heights: Float[Tensor, "H W"]) -> Float[Tensor, "2 H W"]:
    """Compute the slopes of a height map that tiles, by central differences.

    Args:
        heights: In sides of the texture.
    """
    height, width = heights.shape
    right = (heights.roll(-1, 1) - heights.roll(1, 1)) * (width / 2)
    down = (heights.roll(-1, 0) - heights.roll(1, 0)) * (height / 2)
    return torch.stack((right, down))


def ambient_occlusion(heights: Float[Tensor, "H W"], *, periodic: bool) -> Float[Tensor, "H W"]:
    """Compute the share of the sky's cosine-weighted light that the surroundings leave to each texel.

    In each of 16 directions the highest horizon within an eighth of the texture's side is found, on at most 1024×1024
    texels. The ground is taken as level, as a renderer multiplies this map with light that it has already shaded by the
    normal.

    Args:
        heights: In sides of the texture.
        periodic: Whether the texture tiles; if not, its border continues.

    Returns:
        1 where nothing is hidden, down to 0.

    Source: Max 1988, "Horizon mapping: shadows for bump-mapped surfaces"; a horizon of elevation e leaves cos²(e) of
    the light of its direction.
    """
    full = heights.shape
    factor = -(-min(full) // _HORIZON_SIDE)  # rounded up
    if factor > 1:
        heights = F.avg_pool2d(heights[None, None], factor)[0, 0]
    height, width = heights.shape
    distances = []
    reach = 1.0
    while reach <= max(1.0, min(height, width) * _HORIZON_RADIUS):
        distances.append(reach)
        reach = max(reach + 1, reach * _HORIZON_GROWTH)
    left = torch.zeros_like(heights)
    for index in range(_HORIZON_DIRECTIONS):
        angle = 2 * math.pi * index / _HORIZON_DIRECTIONS
        steepest = torch.zeros_like(heights)
        for distance in distances:
            across = round(distance * math.cos(angle))
            along = round(distance * math.sin(angle))
            # Lengths in sides of the texture, along each axis by its own number of texels.
            travelled = math.hypot(across / width, along / height)
            rise = _shifted(heights, along, across, periodic=periodic) - heights
            steepest = torch.maximum(steepest, rise / travelled)
        # cos²(e) for the tangent t of the horizon's elevation e.
        left += 1 / (1 + steepest * steepest)
    left /= _HORIZON_DIRECTIONS
    if factor == 1:
        return left
    # One texel around, so that interpolation at the border sees the neighbouring tile.
    mode = "replicate"
    if periodic:
        mode = "circular"
    framed = F.pad(left[None, None], (1, 1, 1, 1), mode=mode)
    down = full[0] * (height + 2) // height
    right = full[1] * (width + 2) // width
    enlarged = F.interpolate(framed, size=(down, right), mode="bilinear", align_corners=False)[0, 0]
    top = (down - full[0]) // 2
    left_margin = (right - full[1]) // 2
    return enlarged[top : top + full[0], left_margin : left_margin + full[1]]


def cavity_and_edge(
    heights: Float[Tensor, "H W"], *, periodic: bool
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """Separate what lies deeper than its surroundings from what rises above them.

    Args:
        heights: In sides of the texture.
        periodic: Whether the texture tiles; if not, its border continues.

    Returns:
        The cavity map, 1 on flat and raised places and towards 0 in crevices; and the edge map, 0 on flat and deep
        places and towards 1 on ridges.
    """
    above = (heights - _blurred(heights, _DETAIL, periodic=periodic)) * (_CONTRAST / _DETAIL)
    cavity = torch.exp(above.clamp_max(0))
    edge = 1 - torch.exp(-above.clamp_min(0))
    return cavity, edge


def _laplacian(index: Tensor, frequency: float) -> Tensor:
    """Eigenvalues of the second difference, at most 0, in float64."""
    return 2 * torch.cos(index.double() * frequency) - 2


def _cosine(values: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """DCT-II along the last axis, by one Fourier transform of the same length.

    Source: Makhoul 1980, "A Fast Cosine Transform in One and Two Dimensions".
    """
    count = values.shape[-1]
    # Even places rising, then odd places falling: the transform then needs no mirrored copy.
    ordered = torch.cat((values[:, ::2], values[:, 1::2].flip(-1)), dim=-1)
    spectrum: Tensor = torch.fft.fft(ordered) * _quarter_turns(count, -1).to(values.device)
    return spectrum.real


def _inverse_cosine(spectrum: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """Inverse of `_cosine`."""
    count = spectrum.shape[-1]
    # The Fourier transform of real values is symmetric, so each pair of cosine terms gives one complex term.
    mirrored = torch.cat((torch.zeros_like(spectrum[:, :1]), spectrum[:, 1:].flip(-1)), dim=-1)
    terms = torch.complex(spectrum, -mirrored) * _quarter_turns(count, 1).to(spectrum.device)
    ordered = torch.fft.ifft(terms).real
    values = torch.empty_like(spectrum)
    evens = (count + 1) // 2
    values[:, ::2] = ordered[:, :evens]
    values[:, 1::2] = ordered[:, evens:].flip(-1)
    return values


def _quarter_turns(count: int, sign: int) -> Tensor:
    angles = torch.arange(count, dtype=torch.float64) * (sign * math.pi / (2 * count))
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def _shifted(values: Float[Tensor, "H W"], rows: int, columns: int, *, periodic: bool) -> Float[Tensor, "H W"]:
    """The value that is `rows` further down and `columns` further right of each texel."""
    if periodic:
        return values.roll((-rows, -columns), (0, 1))
    height, width = values.shape
    down = (torch.arange(height) + rows).clamp(0, height - 1)
    right = (torch.arange(width) + columns).clamp(0, width - 1)
    return values.index_select(0, down).index_select(1, right)


def _blurred(values: Float[Tensor, "H W"], deviation: float, *, periodic: bool) -> Float[Tensor, "H W"]:
    """Blur by a Gaussian whose standard deviation is in sides of the texture."""
    mode = "replicate"
    if periodic:
        mode = "circular"
    image = values[None, None]
    # One axis after the other: a Gaussian is separable.
    for axis in (2, 3):
        count = image.shape[axis]
        sigma = max(deviation * count, 0.5)
        # A circular border can be no wider than the image.
        radius = min(math.ceil(3 * sigma), count)
        steps = torch.arange(-radius, radius + 1, dtype=values.dtype)
        kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
        kernel = kernel / kernel.sum()
        if axis == 2:
            image = F.conv2d(F.pad(image, (0, 0, radius, radius), mode=mode), kernel.view(1, 1, -1, 1))
        else:
            image = F.conv2d(F.pad(image, (radius, radius, 0, 0), mode=mode), kernel.view(1, 1, 1, -1))
    return image[0, 0]
