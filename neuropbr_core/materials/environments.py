"""Surroundings that light a material: equirectangular radiance (`sphere`), ready for diffuse and specular shading."""

import math
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.errors import DataError
from neuropbr_core.materials.ggx import COUPLING, diffuse_transmission
from neuropbr_core.materials.sampling import uniform
from neuropbr_core.materials.sphere import (
    convolve,
    directions,
    grid_coordinates,
    lobe_spectrum,
    shrink,
    soften_poles,
    solid_angles,
    turn,
    wrap_columns,
)
from neuropbr_core.materials.split_sum import LEVEL_ROUGHNESS, prefilter

TURNS = 32
"""Headings that an environment can be turned to, evenly spaced."""
# Rows of a procedural environment: its lamps have edges of several degrees, so texels of 2.8° suffice.
_HEIGHT = 64
# Rows that radiance maps are averaged to. A texel is 1.4° wide, about as wide as a surface of roughness 0.15 blurs.
_MAP_HEIGHT = 128
# The diffuse lobe is a hemisphere wide, so finer rows would hardly change its integral.
_DIFFUSE_HEIGHT = 64
# Share of a map's mean light that each colour of the light from above must exceed.
_DARK = 1e-4
# Radiance below the horizon of a radiance map: the material reflects irradiance π there like a grey card.
_BOUNCE = 0.18


class Environment(NamedTuple):
    """Light from all around, in linear units of radiance.

    Attributes:
        radiance: The equirectangular map `(3, H, W)`.
        entering: Light that enters a dielectric, by the direction of its normal, `(3, h, w + 2)`:
            ∫ L(l) · COUPLING · (1 - (1 - n·l)⁵) n·l dl. Multiplied by base / π and the transmission at exit, it becomes
            radiance. The first and last columns repeat the opposite ends.
        levels: The map blurred for each of `LEVEL_ROUGHNESS`, `(3, L, H, W + 2)`, with repeated columns too.
    """

    radiance: Tensor
    entering: Tensor
    levels: Tensor


def build_environment(radiance: Float[Tensor, "3 H W"]) -> Environment:
    """Prepare a radiance map for shading.

    Args:
        radiance: Linear radiance >= 0, equirectangular, z up.

    Returns:
        The environment, on the device of `radiance`.
    """
    small = shrink(radiance, _DIFFUSE_HEIGHT)
    height, width = small.shape[1:]
    entering = convolve(torch.fft.rfft(small), _entering_lobe(height, width).to(small.device), width)
    # FFTs leave small negative values beside bright lamps.
    levels = prefilter(radiance).clamp_min(0)
    return Environment(radiance, wrap_columns(entering.clamp_min(0)), wrap_columns(levels))


def environment_from_map(radiance: Float[Tensor, "3 H W"]) -> Environment:
    """Turn a photographed radiance map into the environment of a plane in z = 0.

    The endless plane hides everything below the horizon, so the light of a grey card replaces that half. White balance
    and exposure make the light on the plane neutral and its irradiance π.

    Args:
        radiance: Linear radiance >= 0, equirectangular, z up, of any size.

    Returns:
        The environment, on the device of `radiance`.

    Raises:
        DataError: The map is not usable as light: negative or not finite, or dark above the horizon.
    """
    if not bool(torch.isfinite(radiance).all()) or bool((radiance < 0).any()):
        raise DataError("holds negative or non-finite radiance; it must be finite and at least 0")
    small = soften_poles(shrink(radiance, _MAP_HEIGHT))
    height = small.shape[1]
    above = directions(*small.shape[1:])[2].to(small) > 0
    received = irradiance(small * above)
    overall = (small * solid_angles(*small.shape[1:]).to(small)).sum() / 12  # mean of all colours, times π
    if not bool((received > _DARK * overall).all()):
        raise DataError("is dark above the horizon in at least one colour; is it upside down, or no environment?")
    neutral = small * (math.pi / received).view(3, 1, 1)
    neutral[:, height // 2 :] = _BOUNCE
    return build_environment(neutral)


def scale_environment(environment: Environment, factor: float) -> Environment:
    """Brighten an environment by a factor.

    Args:
        environment: The light.
        factor: Gain, at least 0.

    Returns:
        The environment with every value multiplied.
    """
    return Environment(*(part * factor for part in environment))


def turn_environment(environment: Environment, step: int) -> Environment:
    """Turn an environment about the vertical, counter-clockwise seen from above.

    Args:
        environment: The environment.
        step: Turn in units of 1 / `TURNS` of a circle.

    Returns:
        The turned environment.
    """
    share = step / TURNS
    radiance = torch.roll(environment.radiance, round(share * environment.radiance.shape[-1]), dims=-1)
    return Environment(radiance, turn(environment.entering, share), turn(environment.levels, share))


def diffuse_light(environment: Environment, normals: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Look up the light that enters a dielectric: irradiance weighted by the diffuse term's transmission at entry.

    Args:
        environment: The light.
        normals: Unit normals in the world.

    Returns:
        Linear light: π for white light from everywhere.

    Source: Shirley et al. 1997, "A Practitioners' Assessment of Light Reflection Models" (the coupled diffuse term).
    """
    column, row = grid_coordinates(normals, environment.entering.shape[-1] - 2)
    grid = torch.stack((column, row), dim=-1)[None]
    return F.grid_sample(environment.entering[None], grid, padding_mode="border", align_corners=False)[0]


def specular_light(
    environment: Environment, reflected: Float[Tensor, "3 H W"], roughness: Float[Tensor, "1 H W"]
) -> Float[Tensor, "3 H W"]:
    """Look up prefiltered radiance from the directions of reflection.

    Args:
        environment: The light.
        reflected: Unit vectors, the view mirrored at the normal.
        roughness: Perceptual roughness in [0, 1].

    Returns:
        Linear radiance, interpolated between texels and levels of roughness.

    Source: Karis 2013, "Real Shading in Unreal Engine 4", section "Image-Based Lighting".
    """
    column, row = grid_coordinates(reflected, environment.levels.shape[-1] - 2)
    # The levels are a third axis whose entries have their centres at (i + 0.5) / count, like pixels.
    depth = (roughness[0] * (len(LEVEL_ROUGHNESS) - 1) + 0.5) / len(LEVEL_ROUGHNESS)
    grid = torch.stack((column, row, depth * 2 - 1), dim=-1)
    return F.grid_sample(environment.levels[None], grid[None, None], padding_mode="border", align_corners=False)[
        0, :, 0
    ]


def irradiance(radiance: Float[Tensor, "3 H W"]) -> Float[Tensor, "3"]:
    """Compute the irradiance of a surface that faces +z, summed over all texels of an equirectangular map.

    Args:
        radiance: Linear radiance, z up.

    Returns:
        Irradiance ∫ L(l) · max(l_z, 0) dl of each colour: π for radiance 1 everywhere.

    Source: the definition of irradiance, such as in Pharr et al., "Physically Based Rendering", 4.1.1.
    """
    height, width = radiance.shape[1:]
    weights = solid_angles(height, width) * directions(height, width)[2].clamp_min(0)
    return (radiance * weights.to(radiance)).sum(dim=(1, 2))


def sample_environment(generator: torch.Generator) -> Environment:
    """Draw the surroundings of one capture: a sky or ceiling that fades to the horizon, lamps or windows, and a ground.

    Args:
        generator: Source of all randomness, on the CPU.

    Returns:
        The environment, on the CPU. Its overall brightness is arbitrary; callers scale it.
    """
    vectors = directions(_HEIGHT, 2 * _HEIGHT)
    elevation = vectors[2]
    zenith = _tint(generator, 0.3, 1.0)
    horizon = _tint(generator, 0.3, 1.0)
    # The root puts most of the change near the horizon, where skies and walls change most.
    sky = torch.lerp(horizon, zenith, elevation.clamp_min(0).sqrt())
    ground = _tint(generator, 0.05, 0.25)
    radiance = torch.where(elevation > 0, sky, ground)
    for _ in range(int(uniform(generator, 1.0, 5.0))):
        # A soft-edged lamp above the horizon, 8 to 25° in radius.
        azimuth = uniform(generator, 0.0, 2 * math.pi)
        height = uniform(generator, 0.25, 1.3)  # 14° to 74° above the horizon
        centre = torch.tensor(
            [
                math.cos(height) * math.cos(azimuth),
                math.cos(height) * math.sin(azimuth),
                math.sin(height),
            ]
        )
        angle = torch.acos((vectors * centre.view(3, 1, 1)).sum(dim=0).clamp(-1, 1))
        radius = uniform(generator, math.radians(8), math.radians(25))
        # An edge sharper than a texel (2.8°) would alias.
        shape = torch.sigmoid((radius - angle) / math.radians(1.5))
        radiance = radiance + shape * (vectors[2] > 0) * _tint(generator, 2.0, 12.0)
    return build_environment(radiance)


@cache
def _entering_lobe(height: int, width: int) -> Tensor:
    """The coupled diffuse term's lobe, scaled so that white light enters as π on this grid too."""

    def weight(cosine: Tensor) -> Tensor:
        above = cosine.clamp_min(0)
        return COUPLING * above * diffuse_transmission(above)

    spectrum = lobe_spectrum(height, width, weight)
    # Entries at frequency 0 sum to the lobe's integral over the texels, which misses the exact π by the grid's error.
    return (spectrum * (math.pi / spectrum[..., :1].real.sum(dim=1, keepdim=True))).to(torch.complex64)


def _tint(generator: torch.Generator, low: float, high: float) -> Float[Tensor, "3 1 1"]:
    """A brightness with a warm or cool cast, as white balance leaves it."""
    warmth = uniform(generator, -0.12, 0.12)
    return uniform(generator, low, high) * torch.tensor([1 + warmth, 1.0, 1 - warmth]).view(3, 1, 1)
