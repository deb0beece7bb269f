"""Synthetic captures: several photos of a material under one light, with exposure, sensor noise and 8 bits."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neuropbr_core.materials.cameras import FAR, HAND_HELD, Camera, sample_cameras
from neuropbr_core.materials.capture_kinds import CaptureKind
from neuropbr_core.materials.color import luminance
from neuropbr_core.materials.environments import (
    TURNS,
    Environment,
    irradiance,
    sample_environment,
    scale_environment,
    turn_environment,
)
from neuropbr_core.materials.render import SUPERSAMPLING, Lighting, render_view
from neuropbr_core.materials.sampling import uniform
from neuropbr_core.materials.sensor import add_noise, encode_photos, expose, meter, sample_noise
from neuropbr_core.materials.surface import Surface, build_surface

Exposure = Literal["grey_card", "auto"]
"""How photos are exposed: all alike, by a grey card in the first one, or each on its own."""
PROCEDURAL = "procedural"
"""Name of surroundings that are drawn instead of photographed."""
EXPOSURE_STOPS = 0.15
"""Largest error of a clean photo's exposure, in stops."""
# Range of the environment's share of the light at the tile's centre when a flash gives the rest: a dim room.
_AMBIENT = (0.13, 0.23)
# Range of the distance between lens and flash of the kind `offset`, in sides of the tile: one to a few centimetres on a
# phone, over tiles of 20 to 40 centimetres.
_OFFSET = (0.03, 0.12)


class Scene(NamedTuple):
    """Cameras and light of a capture: everything except the material and the sensor.

    Attributes:
        cameras: The camera of each photo, on the CPU.
        environment: Light from all around, on the CPU, scaled so that under it alone a white Lambertian card has
            radiance 1.
        surroundings: Name of the radiance map behind the environment, or `PROCEDURAL`.
        step: Turn of that map in units of 1 / `TURNS` of a circle.
        ambient: The environment's share of the light at the tile's centre in the first photo; the flash gives the rest.
        flash_offset: `(3,)`, from each lens to its flash in world units, on the CPU; None with the flash at the lens.
    """

    cameras: list[Camera]
    environment: Environment
    surroundings: str
    step: int
    ambient: float
    flash_offset: Tensor | None = None


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
    exposure: Exposure = "grey_card",
) -> Capture:
    """Photograph a material with the flash on, the first photo from above, the others tilted.

    The same generator state gives the same capture, up to rounding between devices.

    Args:
        maps: Albedo, roughness, metallic and normal of one material, each `(1, C, H, W)` float in its range.
        views: Number of photos, at least 1.
        size: Side of the photos in pixels.
        generator: Source of cameras, light, exposure and noise; on the CPU.
        exposure: `grey_card` locks exposure for all photos so that a Lambertian card of reflectance 0.18 at the tile's
            centre is recorded as 0.18 in the first one. `auto` sets each photo's mean luminance to 0.18, as a phone's
            automatic exposure does. Both add an error of up to 0.15 stops.

    Returns:
        The photos and their cameras.

    Raises:
        DataError: A map is missing, holds several materials, or differs in size.
    """
    scene = draw_scene(generator, views)
    return Capture(take_clean(surface_for(maps, size), scene, size, generator, exposure), scene.cameras)


def surface_for(maps: Mapping[str, Tensor], size: int) -> Surface:
    """Prepare maps for photos of a given size.

    Args:
        maps: Albedo, roughness, metallic and normal of one material, each `(1, C, H, W)` float in its range.
        size: Side of the photos in pixels.

    Returns:
        The surface, on the device of the maps.

    Raises:
        DataError: A map is missing, holds several materials, or differs in size.
    """
    return build_surface(maps, size * SUPERSAMPLING)


def draw_scene(
    generator: torch.Generator,
    views: int,
    *,
    kind: CaptureKind = "flash",
    environments: Mapping[str, Environment] | None = None,
) -> Scene:
    """Draw cameras and light.

    Args:
        generator: Source of all randomness, on the CPU.
        views: Number of cameras, at least 1.
        kind: The kind of capture. A flash gives 77 to 87 % of the light; without it, the environment gives all of it.
            Exposure is no part of a scene, so `auto` gives the scenes of `flash`.
        environments: Environments by name, on the CPU, of which one is chosen and turned at random. Without any, the
            environment is procedural.

    Returns:
        The scene, on the CPU.
    """
    placement = HAND_HELD
    if kind == "far":
        placement = FAR
    cameras = sample_cameras(generator, views, placement)
    name = PROCEDURAL
    step = 0
    if environments:
        name = list(environments)[int(uniform(generator, 0, len(environments)))]
        step = int(uniform(generator, 0, TURNS))
        environment = turn_environment(environments[name], step)
    else:
        environment = sample_environment(generator)
    received = float(luminance(irradiance(environment.radiance).view(3, 1, 1)))
    share = 1.0
    if kind != "no_flash":
        share = uniform(generator, *_AMBIENT)
    offset = None
    # Drawn last, so that `flash` and `offset` share cameras and surroundings, draw for draw.
    if kind == "offset":
        length = uniform(generator, *_OFFSET)
        heading = uniform(generator, 0, 2 * math.pi)
        # A phone is held alike in all photos, so its flash is on the same side in all of them.
        offset = torch.tensor([length * math.cos(heading), length * math.sin(heading), 0.0])
    # A white Lambertian card has radiance E / π, which irradiance π makes 1.
    return Scene(cameras, scale_environment(environment, math.pi / received), name, step, share, offset)


def light(scene: Scene) -> Lighting:
    """Return the light of a scene, in units in which a white Lambertian card has radiance 1 in the first photo.

    The card is at the tile's centre and receives irradiance π from flash and environment together. A flash beside the
    lens has the intensity of one at the lens, which changes the card's radiance by less than 5 %.

    Args:
        scene: Cameras, environment and its share.

    Returns:
        Flash and environment, linear, on the CPU.

    Source: the photometric distance law: a point source of intensity I gives irradiance I · cos θ / d².
    """
    first = scene.cameras[0].position
    # E = flash · cos θ / d² with cos θ = z / d, solved for the flash: d³ / z.
    flash = math.pi * (1 - scene.ambient) * float(first.norm()) ** 3 / float(first[2])
    return Lighting(flash, scale_environment(scene.environment, scene.ambient), flash_offset=scene.flash_offset)


def take_clean(
    surface: Surface,
    scene: Scene,
    size: int,
    generator: torch.Generator,
    exposure: Exposure = "grey_card",
) -> Tensor:
    """Photograph a surface as a careful person does: without shadows, with a clean lens, at low sensitivity.

    Args:
        surface: The material, on the device to render on.
        scene: Cameras and light.
        size: Side of the photos in pixels.
        generator: Source of exposure errors and noise, on the CPU.
        exposure: As in `render_capture`.

    Returns:
        Photos `(V, 3, size, size)`, uint8, sRGB-encoded.
    """
    lighting = light(scene).to(surface.texels.device)
    photos = torch.stack([render_view(surface, camera, lighting, size) for camera in scene.cameras])
    return develop(photos, generator, exposure)


def develop(photos: Tensor, generator: torch.Generator, exposure: Exposure = "grey_card") -> Tensor:
    """Turn light on the sensor into photos: exposure with its error, noise of a low sensitivity, sRGB, 8 bits.

    Args:
        photos: Linear light `(V, 3, S, S)`, in units in which a white card has radiance 1 (`light`).
        generator: Source of exposure errors and noise, on the CPU.
        exposure: As in `render_capture`.

    Returns:
        Photos `(V, 3, S, S)`, uint8, sRGB-encoded.
    """
    if exposure == "grey_card":
        # The renderer's units are those of the white card already, and a locked exposure has one error for all photos.
        stops = [uniform(generator, -EXPOSURE_STOPS, EXPOSURE_STOPS)] * len(photos)
    else:
        photos = meter(photos)
        stops = [uniform(generator, -EXPOSURE_STOPS, EXPOSURE_STOPS) for _ in photos]
    exposed = expose(photos, stops)
    return encode_photos(add_noise(exposed, sample_noise(generator, clean=True), generator))
