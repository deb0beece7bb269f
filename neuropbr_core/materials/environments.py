"""Surroundings that light a material: equirectangular radiance, ready for diffuse and specular shading.

An equirectangular map has z up: rows run from straight up (the first) to straight down, columns by azimuth from +x
towards +y, texel centres at (i + 0.5) / size.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.sampling import uniform
from neuropbr_core.materials.split_sum import LEVEL_ROUGHNESS, prefilter, solid_angles

_HEIGHT, _WIDTH = 64, 128
_COUPLED_BANDS = (math.pi, 11 * math.pi / 16, 9 * math.pi / 32)
"""Bands 0 to 2 of the lobe `ggx.COUPLING` · c (1 - (1 - c)⁵): 2π ∫ lobe · P_l dc from 0 to 1. Take the place of the
cosine lobe's π, 2π/3 and π/4 in Ramamoorthi and Hanrahan 2001, equation 8."""


class Environment(NamedTuple):
    """Light from all around, in linear units of radiance.

    Attributes:
        radiance: The equirectangular map `(3, H, W)`.
        harmonics: Its spherical harmonics up to order 2, `(9, 3)`.
        levels: The map blurred for each of `LEVEL_ROUGHNESS`, `(3, L, H, W + 2)`; a column of the other end at each
            side lets interpolation cross azimuth 0.
    """

    radiance: Tensor
    harmonics: Tensor
    levels: Tensor


def build_environment(radiance: Float[Tensor, "3 H W"]) -> Environment:
    """Prepare a radiance map for shading.

    Args:
        radiance: Linear radiance >= 0, equirectangular, z up.
    """
    height, width = radiance.shape[1:]
    weights = solid_angles(height, width).to(radiance)
    basis = harmonic_basis(directions(height, width).to(radiance))
    harmonics = torch.einsum("khw,chw->kc", basis, radiance * weights)
    levels = prefilter(radiance).clamp_min(0)
    return Environment(radiance, harmonics, torch.cat((levels[..., -1:], levels, levels[..., :1]), dim=-1))


def scale_environment(environment: Environment, factor: float) -> Environment:
    """Brighten an environment by a factor."""
    return Environment(*(part * factor for part in environment))


def directions(height: int, width: int) -> Float[Tensor, "3 H W"]:
    """Unit vectors to the texel centres of an equirectangular map."""
    polar = ((torch.arange(height) + 0.5) * (math.pi / height))[:, None]
    azimuth = ((torch.arange(width) + 0.5) * (2 * math.pi / width))[None, :]
    return torch.stack(
        (polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos() * torch.ones_like(azimuth))
    )


def harmonic_basis(vectors: Float[Tensor, "3 H W"]) -> Float[Tensor, "9 H W"]:
    """The nine real spherical harmonics up to order 2. Source: Ramamoorthi and Hanrahan 2001, equation 3."""
    x, y, z = vectors
    linear = 0.488603 * torch.stack((y, z, x))
    products = 1.092548 * torch.stack((x * y, y * z, x * z))
    zonal, sectoral = 0.315392 * (3 * z * z - 1), 0.546274 * (x * x - y * y)
    return torch.cat((torch.full_like(z, 0.282095)[None], linear, products, zonal[None], sectoral[None]))


def diffuse_light(environment: Environment, normals: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Light that enters a dielectric: irradiance weighted by the coupled diffuse term's transmission at entry.

    Args:
        environment: The light.
        normals: Unit normals.

    Returns:
        ∫ L(l) · COUPLING · (1 - (1 - n·l)⁵) n·l dl, from the light's harmonics up to order 2: within 10 % for drawn
        environments. Times base / π and the transmission at exit it is radiance.

    Source: Ramamoorthi and Hanrahan 2001, "An Efficient Representation for Irradiance Environment Maps", equation 7.
    """
    zero, one, two = _COUPLED_BANDS
    weights = environment.harmonics.new_tensor([zero, one, one, one, two, two, two, two, two])
    lobes = environment.harmonics * weights[:, None]
    return torch.einsum("kc,khw->chw", lobes, harmonic_basis(normals)).clamp_min(0)


def specular_light(
    environment: Environment, reflected: Float[Tensor, "3 H W"], roughness: Float[Tensor, "1 H W"]
) -> Float[Tensor, "3 H W"]:
    """Prefiltered radiance from the directions of reflection.

    Args:
        environment: The light.
        reflected: Unit vectors, the view mirrored at the normal.
        roughness: Perceptual roughness in [0, 1].
    """
    levels = environment.levels
    width = levels.shape[-1] - 2
    column = torch.remainder(torch.atan2(reflected[1], reflected[0]) / (2 * math.pi), 1) * width + 1
    row = torch.acos(reflected[2].clamp(-1, 1)) / math.pi
    depth = (roughness[0] * (len(LEVEL_ROUGHNESS) - 1) + 0.5) / len(LEVEL_ROUGHNESS)
    grid = torch.stack((column / (width + 2), row, depth), dim=-1) * 2 - 1
    return F.grid_sample(levels[None], grid[None, None], padding_mode="border", align_corners=False)[0, :, 0]


def horizontal_irradiance(environment: Environment) -> Float[Tensor, "3"]:
    """Irradiance of a surface that faces +z, summed over all texels."""
    height, width = environment.radiance.shape[1:]
    weights = solid_angles(height, width) * directions(height, width)[2].clamp_min(0)
    return (environment.radiance * weights.to(environment.radiance)).sum(dim=(1, 2))


def sample_environment(generator: torch.Generator) -> Environment:
    """Draw the surroundings of one capture: a sky or ceiling that fades to the horizon, lamps or windows, and a ground.

    Args:
        generator: Source of all randomness, on the CPU.

    Returns:
        The environment, on the CPU; its overall brightness means nothing.
    """
    vectors = directions(_HEIGHT, _WIDTH)
    elevation = vectors[2]
    zenith, horizon = _tint(generator, 0.3, 1.0), _tint(generator, 0.3, 1.0)
    sky = torch.lerp(horizon, zenith, elevation.clamp_min(0).sqrt())
    ground = _tint(generator, 0.05, 0.25)
    radiance = torch.where(elevation > 0, sky, ground)
    for _ in range(int(uniform(generator, 1.0, 5.0))):
        radiance = radiance + _softbox(generator, vectors)
    return build_environment(radiance)


def _tint(generator: torch.Generator, low: float, high: float) -> Float[Tensor, "3 1 1"]:
    """A brightness with a warm or cool cast, as white balance leaves it."""
    warmth = uniform(generator, -0.12, 0.12)
    return uniform(generator, low, high) * torch.tensor([1 + warmth, 1.0, 1 - warmth]).view(3, 1, 1)


def _softbox(generator: torch.Generator, vectors: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """A soft-edged lamp above the horizon, 8 to 25° in radius."""
    azimuth, elevation = uniform(generator, 0.0, 2 * math.pi), uniform(generator, 0.25, 1.3)
    centre = torch.tensor(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    angle = torch.acos((vectors * centre.view(3, 1, 1)).sum(dim=0).clamp(-1, 1))
    radius = uniform(generator, math.radians(8), math.radians(25))
    shape = torch.sigmoid((radius - angle) / math.radians(1.5))
    return shape * (vectors[2] > 0) * _tint(generator, 2.0, 12.0)
