"""What a phone records of a material: several photos, one light, one exposure, sensor noise and 8 bits."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from neuropbr_core.materials.cameras import Camera, sample_cameras
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.environments import (
    Environment,
    horizontal_irradiance,
    sample_environment,
    scale_environment,
)
from neuropbr_core.materials.render import SUPERSAMPLING, Lighting, render_view
from neuropbr_core.materials.sampling import uniform
from neuropbr_core.materials.surface import build_surface

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear red, green and blue in luminance. Source: ITU-R BT.709, item 3.2."""
GREY = 0.18
"""Linear value that exposure gives to middle grey."""
_AMBIENT = (0.15, 0.30)
"""Irradiance of the environment at the tile's centre, as a share of the flash's."""
_EXPOSURE_STOPS = 0.15
"""Largest error of exposure."""
_DARKEST = 1e-3
"""Mean luminance below which auto-exposure gains no more."""
_SHOT_NOISE = (1e-4, 6e-4)
"""Variance of a pixel for each unit of light; at white, a deviation of 1 to 2.4 %."""
_READ_NOISE = (5e-4, 2e-3)
"""Deviation of a pixel in the dark, in units of white."""


class Capture(NamedTuple):
    """Photos of one material.

    Attributes:
        views: `(V, 3, size, size)`, uint8, sRGB-encoded, on the device of the maps.
        cameras: The camera of each, on the CPU.
    """

    views: Tensor
    cameras: list[Camera]


def render_capture(
    maps: Mapping[str, Tensor],
    views: int,
    size: int,
    generator: torch.Generator,
    exposure: Literal["grey_card", "auto"] = "grey_card",
) -> Capture:
    """Photograph a material with the flash on, the first photo from above, the others tilted.

    The same generator state gives the same capture, up to rounding between devices.

    Args:
        maps: Albedo, roughness, metallic and normal of one material, each `(1, C, H, W)` float in its range.
        views: Number of photos, at least 1.
        size: Side of the photos in pixels.
        generator: Source of cameras, light, exposure and noise; on the CPU.
        exposure: `grey_card` locks exposure for all photos so that a Lambertian card of reflectance 0.18 at the tile's
            centre is recorded as 0.18 in the first one; `auto` sets each photo's mean luminance to 0.18, as a phone
            left to itself does. Either errs by up to 0.15 stops.

    Returns:
        The capture.

    Raises:
        DataError: A map is missing, holds several materials, or differs in size.
    """
    surface = build_surface(maps, size * SUPERSAMPLING)
    cameras = sample_cameras(generator, views)
    lighting = sample_lighting(generator, cameras[0])
    device = surface.texels.device
    lighting = Lighting(lighting.flash, Environment(*(part.to(device) for part in lighting.environment)))
    photos = torch.stack([render_view(surface, camera, lighting, size) for camera in cameras])
    return Capture(_develop(_expose(photos, generator, exposure), generator), cameras)


def sample_lighting(generator: torch.Generator, first: Camera) -> Lighting:
    """Draw the light of a capture, in units in which a white Lambertian card looks like 1 in the first view.

    The card lies at the tile's centre and receives irradiance π in all, 15 to 30 % as much from the environment as
    from the flash.

    Args:
        generator: Source of the environment and of the balance; on the CPU.
        first: The camera of the first view, where the flash is then.
    """
    environment = sample_environment(generator)
    ambient = uniform(generator, *_AMBIENT)
    distance = float(first.position.norm())
    flash_irradiance = math.pi / (1 + ambient)
    flash = flash_irradiance * distance**3 / float(first.position[2])
    found = float(_luminance(horizontal_irradiance(environment).view(3, 1, 1)))
    return Lighting(flash, scale_environment(environment, ambient * flash_irradiance / found))


def _luminance(linear: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 1 H W"]:
    return (linear * linear.new_tensor(LUMINANCE).view(3, 1, 1)).sum(dim=-3, keepdim=True)


def _expose(
    photos: Float[Tensor, "V 3 S S"], generator: torch.Generator, exposure: Literal["grey_card", "auto"]
) -> Float[Tensor, "V 3 S S"]:
    """Scale photos that are in units of the white card."""
    if exposure == "grey_card":
        return photos * _exposure_error(generator)
    errors = [_exposure_error(generator) for _ in photos]
    # What outshines white counts as white, or one highlight would darken the whole photo.
    metered = _luminance(photos).clamp_max(1).mean(dim=(1, 2, 3), keepdim=True).clamp_min(_DARKEST)
    return photos * (GREY / metered) * photos.new_tensor(errors).view(-1, 1, 1, 1)


def _exposure_error(generator: torch.Generator) -> float:
    return math.exp2(uniform(generator, -_EXPOSURE_STOPS, _EXPOSURE_STOPS))


def _develop(photos_linear: Float[Tensor, "V 3 S S"], generator: torch.Generator) -> UInt8[Tensor, "V 3 S S"]:
    """Add shot noise (variance in proportion to light) and read noise, clip, encode, round."""
    shot, read = uniform(generator, *_SHOT_NOISE), uniform(generator, *_READ_NOISE)
    noise = torch.randn(photos_linear.shape, generator=generator).to(photos_linear.device)
    clipped = photos_linear.clamp(0, 1)
    recorded = clipped + noise * torch.sqrt(shot * clipped + read * read)
    return (linear_to_srgb(recorded.clamp(0, 1)) * 255).round().to(torch.uint8)
