"""A careless capture: the same cameras and surroundings, with everything that goes wrong in practice.

Effects are applied in the order in which light meets them: people and clutter in a brighter room; a lens that is dirty,
out of focus or shaken; errors of exposure and white balance in every photo; a noisy sensor. JPEG compression is applied
where files are written.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.capture import Exposure, Scene, light
from neuropbr_core.materials.defects import Dirt
from neuropbr_core.materials.lens import defocus, haze, shake, streak, vignette
from neuropbr_core.materials.occlusion import draw_occlusions
from neuropbr_core.materials.render import render_view
from neuropbr_core.materials.sampling import uniform
from neuropbr_core.materials.sensor import add_noise, balance, encode_photos, expose, meter, sample_noise
from neuropbr_core.materials.surface import Surface

# Range of the environment's share of the light beside a flash, in a lit room: higher than that of a clean capture.
_AMBIENT = (0.25, 0.5)
# From a messenger's recompression to a phone's own files.
_JPEG_QUALITY = (50, 95)


def draw_dirt(generator: torch.Generator, scene: Scene) -> Dirt:
    """Draw the defects of a capture.

    A lens keeps its dirt for all photos of a capture. Exposure and white balance drift from photo to photo around
    errors that all photos share.

    Args:
        generator: Source of all randomness, on the CPU.
        scene: Cameras and light of the capture.

    Returns:
        The defects, with an entry for each of the scene's cameras in its lists.
    """
    views = len(scene.cameras)
    # The order of all draws below is part of the result: a seed would give another capture if it changed.
    exposure = uniform(generator, -0.4, 0.4)
    warmth = uniform(generator, -0.3, 0.3)
    tint = uniform(generator, -0.08, 0.08)
    # Without a flash the environment gives all the light, dirty or not.
    ambient = 1.0
    if scene.ambient < 1:
        ambient = uniform(generator, *_AMBIENT)
    return Dirt(
        ambient=ambient,
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


def take_dirty(
    surface: Surface,
    scene: Scene,
    dirt: Dirt,
    size: int,
    generator: torch.Generator,
    exposure: Exposure = "grey_card",
) -> Tensor:
    """Photograph a surface with all defects except JPEG compression.

    Args:
        surface: The material, on the device to render on.
        scene: Cameras and light.
        dirt: The defects.
        size: Side of the photos in pixels.
        generator: Source of obstacles and noise, on the CPU.
        exposure: As in `capture.render_capture`; the defects' errors of exposure come on top.

    Returns:
        Photos `(V, 3, size, size)`, uint8, sRGB-encoded.
    """
    scene = scene._replace(ambient=dirt.ambient)
    occlusions = draw_occlusions(
        generator, scene.environment.radiance, scene.cameras, photographer=dirt.photographer, clutter=dirt.clutter
    )
    lighting = light(scene)
    photos = []
    for camera, occlusion in zip(scene.cameras, occlusions, strict=True):
        shadowed = lighting._replace(occlusion=occlusion).to(surface.texels.device)
        photos.append(render_view(surface, camera, shadowed, size))
    # The lens comes before the sensor's gains, and noise after them: it belongs to the exposed photo.
    smeared = smear(torch.stack(photos), dirt)
    if exposure == "auto":
        smeared = meter(smeared)
    balanced = balance(expose(smeared, dirt.exposure), dirt.warmth, dirt.tint)
    return encode_photos(add_noise(balanced, dirt.noise, generator))


def smear(photos: Float[Tensor, "V 3 S S"], dirt: Dirt) -> Float[Tensor, "V 3 S S"]:
    """Apply the defects of the lens: defocus, shake, haze, streaks and vignetting.

    Args:
        photos: Linear light, unclipped, so that highlights spread all the light that they have.
        dirt: The defects, with an entry for each photo in its lists.

    Returns:
        Linear light, unclipped.
    """
    blurred = []
    for sharp, radius, (length, angle) in zip(photos[:, None], dirt.defocus, dirt.shake, strict=True):
        photo = sharp
        if radius:
            photo = defocus(photo, radius)
        if length:
            photo = shake(photo, length, angle)
        blurred.append(photo)
    photos = torch.cat(blurred)
    # Convolutions over the whole photo are the slow part, and most captures lack one of them.
    if dirt.haze[0]:
        photos = haze(photos, *dirt.haze)
    if dirt.streak[0]:
        photos = streak(photos, *dirt.streak)
    return vignette(photos, dirt.vignette)


def _happens(generator: torch.Generator, chance: float) -> bool:
    return uniform(generator, 0, 1) < chance


def _sometimes(generator: torch.Generator, chance: float, low: float, high: float) -> float:
    """Draw from [low, high) with probability `chance`, else return 0; the generator advances alike in both cases."""
    value = uniform(generator, low, high)
    if _happens(generator, chance):
        return value
    return 0.0
