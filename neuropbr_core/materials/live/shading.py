"""Radiance of points of the plane towards several cameras; what `render.shade` computes, with less arithmetic.

Components are tensors of their own, `(V, N)` for V cameras and N points: sums over a short leading axis are slow.
Nothing is interpolated twice, and what does not depend on the camera is computed once. A test compares both.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.environments import Environment
from neuropbr_core.materials.ggx import COUPLING, DIELECTRIC_F0, MIN_ROUGHNESS, schlick
from neuropbr_core.materials.live.textures import SurfaceValues
from neuropbr_core.materials.split_sum import LEVEL_ROUGHNESS, specular_scale_bias

_Vector = tuple[Tensor, Tensor, Tensor]
_MIN_COSINE = 1e-4


class Shadow(NamedTuple):
    """Who holds the phone, as a soft dark disc in the surroundings of each photo.

    Attributes:
        towards: Unit vector to its centre, `(V, 3)`.
        cosine: Cosine of its radius as an angle.
        diffuse: Share of the diffuse light that is left, `(V,)`.
    """

    towards: Tensor
    cosine: float
    diffuse: Tensor


class LiveLight(NamedTuple):
    """Flash and surroundings of a capture, in units in which a white Lambertian card at the tile's centre looks like 1.

    Attributes:
        environment: Light from all around, which alone makes the card look like 1.
        turned: How far it is turned about the vertical, in radians, counter-clockwise from above.
        ambient: The surroundings' share of the light; the flash gives the rest.
        offset: From each lens to its flash, `(V, 3)`; None with the flash at the lens.
        shadow: What hides part of the surroundings; None when nothing does.
    """

    environment: Environment
    turned: float = 0.0
    ambient: float = 0.18
    offset: Tensor | None = None
    shadow: Shadow | None = None


@contextmanager
def single_thread() -> Iterator[None]:
    """Context in which torch computes in the calling thread alone.

    Loader threads run beside each other already, and results must not depend on how sums are divided. With OpenMP the
    number of threads belongs to the calling thread, so training beside it keeps its own.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def radiance(
    values: SurfaceValues, points: npt.NDArray[np.float64], positions: npt.NDArray[np.float64], light: LiveLight
) -> Tensor:
    """Shade points for every camera.

    Args:
        values: The material at the points. Where slopes were averaged, their deviation widens the lobe.
        points: Texture coordinates `(N, 2)`.
        positions: Lenses in world units, `(V, 3)`.
        light: The light.

    Returns:
        Linear radiance `(V, 3, N)`.

    Source: slopes of variance σ² widen a lobe of alpha² to alpha² + 2σ²: Olano and Baker 2010, "LEAN Mapping".
    """
    base = srgb_to_linear(torch.from_numpy(values.albedo))
    metallic = torch.from_numpy(values.metallic)
    f0 = DIELECTRIC_F0 + (base - DIELECTRIC_F0) * metallic
    diffuse = base * (1 - metallic)
    spread = torch.from_numpy(values.spread)
    alpha_squared = torch.from_numpy(values.roughness).clamp_min(MIN_ROUGHNESS) ** 4 + 2 * spread * spread
    # Beyond 1 the lobe has no meaning; a facet field cannot be rougher than that.
    alpha_squared = alpha_squared.clamp_max(1.0)
    roughness = alpha_squared.sqrt().sqrt()
    slope_x, slope_y = torch.from_numpy(values.slopes).unbind()
    nz = torch.rsqrt(1 + slope_x * slope_x + slope_y * slope_y)
    nx = slope_x * nz
    ny = slope_y * nz

    # Vectors to the lens; the plane is z = 0, and v runs down where y runs up.
    lens = torch.from_numpy(positions).float()
    u, v = torch.from_numpy(points.T.astype(np.float32)).unbind()
    x = lens[:, 0:1] - (u - 0.5)
    y = lens[:, 1:2] - (0.5 - v)
    z = lens[:, 2:3]
    squared = x * x + y * y + z * z
    scale = torch.rsqrt(squared)
    vx = x * scale
    vy = y * scale
    vz = z * scale
    n_dot_v = nx * vx + ny * vy + nz * vz

    # The flash: base colours times three numbers for each camera and point.
    flash = math.pi * (1 - light.ambient) * float(lens[0].norm()) ** 3 / float(lens[0, 2])
    tinted = torch.zeros_like(squared)
    white = torch.zeros_like(squared)
    scattered = torch.zeros_like(squared)
    if flash > 0:
        n_dot_l = n_dot_v
        l_dot_v = torch.ones_like(n_dot_v)
        falloff = 1 / squared
        if light.offset is not None:
            lx = x + light.offset[:, 0:1]
            ly = y + light.offset[:, 1:2]
            lz = z + light.offset[:, 2:3]
            falloff = 1 / (lx * lx + ly * ly + lz * lz)
            length = falloff.sqrt()
            n_dot_l = (nx * lx + ny * ly + nz * lz) * length
            l_dot_v = (vx * lx + vy * ly + vz * lz) * length
        tinted, white, scattered = flash_factors(n_dot_v, n_dot_l, l_dot_v, alpha_squared, flash * falloff)

    around = _surroundings(light, (nx, ny, nz), (vx, vy, vz), n_dot_v, roughness)
    channels = []
    for channel in range(3):
        specular = around.mirrored[channel]
        reflected = f0[channel] * (tinted + specular * around.scale) + white + specular * around.bias
        channels.append(reflected + diffuse[channel] * (scattered + around.entering[channel] * around.leaving))
    return torch.stack(channels, dim=1)


def flash_factors(
    n_dot_v: Tensor, n_dot_l: Tensor, l_dot_v: Tensor, alpha_squared: Tensor, irradiance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Split what a point light gives into factors of the material's colours: `ggx.brdf` by cosines alone.

    Args:
        n_dot_v: Cosine between normal and view, any shape; all arguments broadcast.
        n_dot_l: Cosine between normal and light.
        l_dot_v: Cosine between light and view; 1 with the flash at the lens.
        alpha_squared: Roughness to the fourth, in (0, 1].
        irradiance: Of a surface that faces the light.

    Returns:
        Factors of F0, of white and of the diffuse colour in the linear radiance.
    """
    lit = irradiance * torch.where((n_dot_v > 0) & (n_dot_l > 0), n_dot_l, 0.0)
    v = n_dot_v.clamp(_MIN_COSINE, 1)
    l = n_dot_l.clamp(_MIN_COSINE, 1)  # noqa: E741
    # h = (v + l) / |v + l|, and |v + l|² = 2 + 2 v·l.
    to_half = torch.rsqrt((2 + 2 * l_dot_v).clamp_min(1e-6))
    n_dot_h = ((n_dot_v + n_dot_l) * to_half).clamp(0, 1)
    v_dot_h = ((1 + l_dot_v) * to_half).clamp(0, 1)
    denominator = n_dot_h * n_dot_h * (alpha_squared - 1) + 1
    density = alpha_squared / (math.pi * denominator * denominator)
    rest = 1 - alpha_squared
    masking = l * torch.sqrt(v * v * rest + alpha_squared) + v * torch.sqrt(l * l * rest + alpha_squared)
    lobe = density * (0.5 / masking) * lit
    # Schlick's F0 + (1 - F0) s, sorted by what F0 multiplies: F0 (1 - s) + s. With the flash at the lens s is 0.
    white = lobe * schlick(v_dot_h)
    coupled = (1 - schlick(l)) * (1 - schlick(v)) * (COUPLING * (1 - DIELECTRIC_F0) / math.pi)
    return lobe - white, white, coupled * lit


class _Around(NamedTuple):
    """What the surroundings give: light that enters and its share that leaves, mirrored light and its factors."""

    entering: Tensor
    leaving: Tensor
    mirrored: Tensor
    scale: Tensor
    bias: Tensor


def _surroundings(light: LiveLight, normal: _Vector, view: _Vector, n_dot_v: Tensor, roughness: Tensor) -> _Around:
    """Light from all around: diffuse light depends on the normal alone, reflections on the camera too."""
    nx, ny, nz = normal
    vx, vy, vz = view
    facing = n_dot_v.clamp(0, 1)
    rx = 2 * facing * nx - vx
    ry = 2 * facing * ny - vy
    rz = 2 * facing * nz - vz
    scale, bias = specular_scale_bias(facing[None], roughness.expand_as(facing)[None])
    mirrored = _mirrored(light, rx, ry, rz, roughness)
    leaving = (1 - schlick(facing)) * ((1 - DIELECTRIC_F0) / math.pi)
    if light.shadow is not None:
        to_x = light.shadow.towards[:, 0:1]
        to_y = light.shadow.towards[:, 1:2]
        to_z = light.shadow.towards[:, 2:3]
        inside = rx * to_x + ry * to_y + rz * to_z - light.shadow.cosine
        # The disc is as soft as the roughness blurs reflections.
        softness = 0.03 + roughness * roughness
        # A tenth comes back from what hides the rest, as in `occlusion`.
        mirrored = mirrored * (1 - 0.9 * torch.sigmoid(inside * 3 / softness))
        leaving = leaving * light.shadow.diffuse[:, None]
    # Light that enters is an integral over a hemisphere: smooth, so a small image by the normal's direction holds it.
    image = light.environment.entering
    # The image repeats a column on each side, so that interpolation continues across the seam.
    columns = image.shape[-1] - 2
    across = (_azimuth(nx, ny, light.turned) * columns + 1) / (columns + 2) * 2 - 1
    down = torch.acos(nz.clamp(-1, 1)) * (2 / math.pi) - 1
    grid = torch.stack((across, down), dim=-1)[None, None]
    sampled = F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
    entering = sampled[0, :, 0] * light.ambient
    return _Around(entering, leaving, mirrored, scale, bias)


def _azimuth(x: Tensor, y: Tensor, turned: float) -> Tensor:
    """Share of the circle from the environment's first column, in [0, 1)."""
    return torch.remainder((torch.atan2(y, x) - turned) / (2 * math.pi), 1)


def _mirrored(light: LiveLight, x: Tensor, y: Tensor, z: Tensor, roughness: Tensor) -> Tensor:
    """Prefiltered light from the reflected directions, `(3, V, N)`.

    Levels are laid out below each other in one image: two samples of an image are faster than one of a volume.
    """
    levels = light.environment.levels
    count, height, width = levels.shape[1:]
    image = levels.reshape(1, 3, count * height, width)
    across = (_azimuth(x, y, light.turned) * (width - 2) + 1) / width * 2 - 1
    # Clamped to the level, or interpolation would fetch the next level's zenith at the nadir.
    row = (torch.acos(z.clamp(-1, 1)) * (height / math.pi) - 0.5).clamp(0, height - 1)
    depth = roughness * (len(LEVEL_ROUGHNESS) - 1)
    # Roughness 1 interpolates the last two levels with a share of 1.
    low = depth.floor().clamp_max(count - 2)
    between = depth - low
    sampled = []
    for level in (low, low + 1):
        down = (level * height + row + 0.5) * (2 / (count * height)) - 1
        grid = torch.stack((across, down.expand_as(across)), dim=-1)[None]
        sampled.append(F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0])
    return torch.lerp(sampled[0], sampled[1], between.expand_as(across)) * light.ambient
