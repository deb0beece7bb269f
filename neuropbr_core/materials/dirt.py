"""A careless capture: the same cameras and surroundings, with everything that goes wrong in practice.

In the order of the light: people and clutter in a brighter room, a lens that is dirty, out of focus or shaken, an
exposure and a white balance that are off in every photo, and a noisy sensor. What JPEG does follows where files are
written.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.capture import Scene, light
from neuropbr_core.materials.lens import defocus, haze, shake, streak, vignette
from neuropbr_core.materials.occlusion import Occlusion, draw_occlusions
from neuropbr_core.materials.render import render_view
from neuropbr_core.materials.sampling import uniform
from neuropbr_core.materials.sensor import Noise, add_noise, balance, encode_photos, expose, sample_noise
from neuropbr_core.materials.surface import Surface

_AMBIENT = (0.25, 0.5)
"""The environment's share of the light beside a flash, in a lit room."""
_JPEG_QUALITY = (50, 95)


@dataclass(frozen=True)
class Dirt:
    """What goes wrong in one capture. Lists have an entry for each photo; 0 means that the effect is absent.

    Attributes:
        ambient: The environment's share of the light.
        photographer: Whether who holds the phone takes light away.
        clutter: Other things in the light, 0 to 2.
        haze: Share of the light that grease on the lens spreads, 0 to 0.25, and how far, in sides of the photo.
        streak: Share of the light that scratches drag out, 0 to 0.12; its length in sides; its angle in radians.
        defocus: Radius of the circle of confusion of each photo, 0 to 0.005 sides.
        shake: Length of the hand's path in each photo, 0 to 0.01 sides, and its angle in radians.
        vignette: tan² of the corners' angle, 0 to 0.15.
        exposure: Error of each photo's exposure, -0.6 to 0.6 stops.
        warmth: Red over blue in each photo, -0.4 to 0.4 stops.
        tint: Green over red and blue in each photo, -0.12 to 0.12 stops.
        noise: Of a sensor pixel at ISO 200 to 3200.
        jpeg: Quality of each photo's compression, 50 to 95.
    """

    ambient: float
    photographer: bool
    clutter: int
    haze: tuple[float, float]
    streak: tuple[float, float, float]
    defocus: list[float]
    shake: list[tuple[float, float]]
    vignette: float
    exposure: list[float]
    warmth: list[float]
    tint: list[float]
    noise: Noise
    jpeg: list[int]


def draw_dirt(generator: torch.Generator, scene: Scene) -> Dirt:
    """Draw what goes wrong.

    A lens keeps its dirt for all photos of a capture. Exposure and white balance drift from photo to photo around
    errors that they share.

    Args:
        generator: Source of all randomness, on the CPU.
        scene: What the capture is taken of.
    """
    views = len(scene.cameras)
    exposure, warmth, tint = (uniform(generator, -limit, limit) for limit in (0.4, 0.3, 0.08))
    return Dirt(
        ambient=uniform(generator, *_AMBIENT) if scene.ambient < 1 else 1.0,
        photographer=_happens(generator, 0.8),
        clutter=int(uniform(generator, 0, 3)),
        haze=(_sometimes(generator, 0.5, 0.03, 0.25), uniform(generator, 0.03, 0.2)),
        streak=(_sometimes(generator, 0.4, 0.02, 0.12), uniform(generator, 0.05, 0.3), uniform(generator, 0, math.pi)),
        defocus=[_sometimes(generator, 0.3, 0.0, 0.005) for _ in range(views)],
        shake=[(_sometimes(generator, 0.3, 0.0, 0.01), uniform(generator, 0, math.pi)) for _ in range(views)],
        vignette=uniform(generator, 0.0, 0.15),
        exposure=[exposure + uniform(generator, -0.2, 0.2) for _ in range(views)],
        warmth=[warmth + uniform(generator, -0.1, 0.1) for _ in range(views)],
        tint=[tint + uniform(generator, -0.04, 0.04) for _ in range(views)],
        noise=sample_noise(generator, clean=False),
        jpeg=[round(uniform(generator, *_JPEG_QUALITY)) for _ in range(views)],
    )


def take_dirty(surface: Surface, scene: Scene, dirt: Dirt, size: int, generator: torch.Generator) -> Tensor:
    """Photograph a surface with all that is wrong, but for the compression.

    Args:
        surface: The material, on the device to render on.
        scene: Cameras and light.
        dirt: What is wrong.
        size: Side of the photos in pixels.
        generator: Source of obstacles and noise, on the CPU.

    Returns:
        Photos `(V, 3, size, size)`, uint8, sRGB-encoded.
    """
    scene = scene._replace(ambient=dirt.ambient)
    occlusions = draw_occlusions(
        generator, scene.environment, scene.cameras, photographer=dirt.photographer, clutter=dirt.clutter
    )
    photos = torch.stack(_shots(surface, scene, occlusions, size))
    photos = balance(expose(smear(photos, dirt), dirt.exposure), dirt.warmth, dirt.tint)
    return encode_photos(add_noise(photos, dirt.noise, generator))


def smear(photos: Float[Tensor, "V 3 S S"], dirt: Dirt) -> Float[Tensor, "V 3 S S"]:
    """Apply what happens in the lens."""
    blurred = []
    for photo, radius, (length, angle) in zip(photos[:, None], dirt.defocus, dirt.shake, strict=True):
        sharp = defocus(photo, radius) if radius else photo
        blurred.append(shake(sharp, length, angle) if length else sharp)
    photos = torch.cat(blurred)
    photos = haze(photos, *dirt.haze) if dirt.haze[0] else photos
    photos = streak(photos, *dirt.streak) if dirt.streak[0] else photos
    return vignette(photos, dirt.vignette)


def _shots(surface: Surface, scene: Scene, occlusions: list[Occlusion], size: int) -> list[Tensor]:
    lighting, device = light(scene), surface.texels.device
    return [
        render_view(surface, camera, lighting._replace(occlusion=occlusion).to(device), size)
        for camera, occlusion in zip(scene.cameras, occlusions, strict=True)
    ]


def _happens(generator: torch.Generator, chance: float) -> bool:
    return uniform(generator, 0, 1) < chance


def _sometimes(generator: torch.Generator, chance: float, low: float, high: float) -> float:
    """A draw from [low, high), or 0; the generator advances alike in both cases."""
    value = uniform(generator, low, high)
    return value if _happens(generator, chance) else 0.0
