"""Noise that repeats exactly over the tile.

A lattice of random values, or of random gradients, wraps around; a quintic blends between its points. Over a regular
grid the blend is separable, so a noise is one or two products of small matrices: W_rows · lattice · W_columnsᵀ.

Sources: Perlin 2002, "Improving Noise" (the quintic, gradient noise); Ebert et al. 2003, "Texturing and Modeling",
chapters 2 (lattice noises) and 16 (sums of octaves); the separable product is the same sum, written as matrices.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.procedural.canvas import Canvas, Positions

MAX_CELLS = 128
"""Finest lattice of a sum of octaves: a tile sampled 512 times still has four samples a lattice cell."""
# Standard deviation of gradient noise with unit gradients: sqrt(a · b), where a = 2 ∫ w² = 0.78355 and
# b = 2 ∫ w² t² = 0.059384 over a lattice cell, and w is the blend of one of its two points.
_GRADIENT_SPREAD = 0.21571
# Standard deviation of value noise over values even in [0, 1): a / sqrt(12).
_VALUE_SPREAD = 0.78355 / math.sqrt(12)


def gradient_noise(canvas: Canvas, rows: int, columns: int) -> Float[Tensor, "S S"]:
    """Perlin's gradient noise.

    Args:
        canvas: The tile, and the source of the lattice.
        rows: Lattice cells down the tile, at least 1.
        columns: Lattice cells across it.

    Returns:
        Noise with mean 0 and standard deviation 1 over all seeds; 0 at lattice points, seldom beyond 3.

    Source: Perlin 2002, with gradients of unit length in any direction.
    """
    turn = canvas.draws.table(rows, columns) * (2 * math.pi)
    blend_v, slope_v = _basis(canvas.size, rows)
    blend_u, slope_u = _basis(canvas.size, columns)
    noise = blend_v @ turn.cos() @ slope_u.T + slope_v @ turn.sin() @ blend_u.T
    return noise / _GRADIENT_SPREAD


def value_noise(canvas: Canvas, rows: int, columns: int) -> Float[Tensor, "S S"]:
    """Smoothly blended random values; unlike gradient noise it has power at the lowest frequencies, for streaks.

    Args:
        canvas: The tile, and the source of the lattice.
        rows: Lattice cells down the tile, at least 1.
        columns: Lattice cells across it.

    Returns:
        Noise with mean 0 and standard deviation 1 over all seeds, within ±2.21.

    Source: Ebert et al. 2003, chapter 2 (lattice value noise).
    """
    values = canvas.draws.table(rows, columns) - 0.5
    return _basis(canvas.size, rows)[0] @ values @ _basis(canvas.size, columns)[0].T / _VALUE_SPREAD


def fractal(
    canvas: Canvas, cells: int, octaves: int, *, gain: float = 0.5, stretch: float = 1.0
) -> Float[Tensor, "S S"]:
    """Sum octaves of gradient noise, each twice as fine as the one before; those beyond `MAX_CELLS` are left out.

    Args:
        canvas: The tile.
        cells: Lattice cells of the coarsest octave along its finer axis.
        octaves: Number of octaves.
        gain: Amplitude of an octave relative to the one before; 0.5 gives rough, scale-free surfaces.
        stretch: How many times longer than wide features are: along u above 1, along v below 1.

    Returns:
        Noise with mean 0 and standard deviation 1 over all seeds.

    Source: Musgrave in Ebert et al. 2003, chapter 16, fractional Brownian motion.
    """
    total = canvas.zeros()
    power = 0.0
    for level in range(octaves):
        fine = cells << level
        # Octaves finer than the samples would alias.
        if level > 0 and fine > MAX_CELLS:
            break
        rows = fine
        columns = fine
        # The finer axis keeps `fine` cells; the other has fewer.
        if stretch >= 1:
            columns = max(1, round(fine / stretch))
        else:
            rows = max(1, round(fine * stretch))
        total.add_(gradient_noise(canvas, rows, columns), alpha=gain**level)
        # Variances of independent octaves add up.
        power += gain ** (2 * level)
    return total / math.sqrt(power)


def ridged(canvas: Canvas, cells: int, octaves: int, *, gain: float = 0.5) -> Float[Tensor, "S S"]:
    """Sum octaves of 1 - `|noise|`: sharp crests between round hollows.

    Args:
        canvas: The tile.
        cells: Lattice cells of the coarsest octave.
        octaves: Number of octaves, as in `fractal`.
        gain: Amplitude of an octave relative to the one before.

    Returns:
        A field whose crests are 1; its mean is about 0.2.

    Source: Musgrave in Ebert et al. 2003, chapter 16, ridged multifractals (without their feedback).
    """
    total = canvas.zeros()
    weight = 0.0
    for level in range(octaves):
        if level == 0 or cells << level <= MAX_CELLS:
            total.add_(1 - gradient_noise(canvas, cells << level, cells << level).abs(), alpha=gain**level)
            weight += gain**level
    return total / weight


def swayed(canvas: Canvas, cells: int, octaves: int, reach: float, gain: float = 0.5) -> Positions:
    """Return the positions of all samples, displaced by noise.

    Args:
        canvas: The tile.
        cells: Lattice cells of the coarsest octave.
        octaves: Number of octaves.
        reach: Standard deviation of the displacement in each direction, in tiles.
        gain: As in `fractal`.

    Returns:
        Displaced positions, to the right and down, in tiles.

    Source: Ebert et al. 2003, chapter 2 (domain distortion).
    """
    u, v = canvas.at
    across = fractal(canvas, cells, octaves, gain=gain)
    down = fractal(canvas, cells, octaves, gain=gain)
    return u + reach * across, v + reach * down


def blur(field: Float[Tensor, "S S"], radius: float) -> Float[Tensor, "S S"]:
    """Convolve with a Gaussian, wrapping around.

    Args:
        field: Any field.
        radius: Standard deviation in tiles.

    Returns:
        The smoothed field.

    Source: the Fourier transform of a Gaussian, exp(-2 π² σ² f²) with f in cycles a tile.
    """
    size = field.shape[-1]
    down = torch.fft.fftfreq(size, 1 / size)[:, None]
    across = torch.fft.rfftfreq(size, 1 / size)[None, :]
    transfer = torch.exp(-2 * (math.pi * radius) ** 2 * (down.square() + across.square()))
    smoothed: Float[Tensor, "S S"] = torch.fft.irfft2(torch.fft.rfft2(field) * transfer, s=(size, size))
    return smoothed


def shift(field: Float[Tensor, "S S"], du: Float[Tensor, "S S"], dv: Float[Tensor, "S S"]) -> Float[Tensor, "S S"]:
    """Look a field up at displaced positions, bilinearly; the field repeats.

    Args:
        field: Any field over the tile.
        du: Displacement to the right in tiles.
        dv: Displacement down.

    Returns:
        `field(u + du, v + dv)`.
    """
    size = field.shape[-1]
    centres = (torch.arange(size) + 0.5) / size
    grid = torch.stack(((centres[None, :] + du).remainder(1), (centres[:, None] + dv).remainder(1)), dim=-1)
    # The field gets a ring of one sample from its other side, so that interpolation crosses the tile's edge.
    grid = (grid * size + 1) * (2 / (size + 2)) - 1
    ringed = F.pad(field[None, None], (1, 1, 1, 1), mode="circular")
    return F.grid_sample(ringed, grid[None], padding_mode="border", align_corners=False)[0, 0]


def _basis(size: int, cells: int) -> tuple[Float[Tensor, "S P"], Float[Tensor, "S P"]]:
    """Return each lattice point's weight for each sample along one axis, and that weight times the distance."""
    position = (torch.arange(size, dtype=torch.float64) + 0.5) * (cells / size)
    before = position.floor().long()
    t = position - before
    rising = t**3 * (t * (t * 6 - 15) + 10)  # Perlin's quintic, whose first two derivatives are 0 at both ends
    blend = torch.zeros(size, cells, dtype=torch.float64)
    slope = torch.zeros(size, cells, dtype=torch.float64)
    for point, weight, distance in ((before, 1 - rising, t), ((before + 1) % cells, rising, t - 1)):
        # Added instead of set: with one cell, both neighbours of a sample are the same lattice point.
        blend.scatter_add_(1, point[:, None], weight[:, None])
        slope.scatter_add_(1, point[:, None], (weight * distance)[:, None])
    return blend.float(), slope.float()


def streaks(canvas: Canvas, along_v: bool) -> Float[Tensor, "S S"]:
    """Return long fine grooves of many widths.

    Args:
        canvas: The tile.
        along_v: Whether the grooves run down the tile; else they run across it.

    Returns:
        Noise with mean 0 and standard deviation 1 over all seeds.
    """
    total = canvas.zeros()
    power = 0.0
    # Lattice cells across and along the grooves. Value noise, because gradient noise vanishes on lattice lines.
    for fine, long in ((16, 1), (48, 2), (96, 3), (128, 2), (128, 5)):
        rows = fine
        columns = long
        if along_v:
            rows = long
            columns = fine
        weight = fine / 128
        total.add_(value_noise(canvas, rows, columns), alpha=weight)
        # Variances of independent noises add up.
        power += weight * weight
    return total / math.sqrt(power)
