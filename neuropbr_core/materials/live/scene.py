"""One live capture: a drawn or given scene, photographed in the texture frame."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.environments import Environment
from neuropbr_core.materials.live.crop_grid import MARGIN, CropGrid, frame_points
from neuropbr_core.materials.live.framing import Array, Viewpoints, project
from neuropbr_core.materials.live.options import Light
from neuropbr_core.materials.live.photos import Errors, develop_crop, exposure_gains
from neuropbr_core.materials.live.shading import LiveLight, Shadow, radiance
from neuropbr_core.materials.live.textures import SurfaceValues
from neuropbr_core.materials.sensor import tone_curve

_SLACK = 1e-3
"""Pixels by which a point may leave a photo, as in `alignment`."""
OVERVIEW_POINTS = 2
"""Points along each side of an overview's pixel. With one, half of the small highlights of mirrors would be missed."""


class AlignedPhotos(NamedTuple):
    """What a capture gives.

    Attributes:
        views: The crop as each aligned photo shows it, uint8 `(V, 3, side, side)`; 0 where it is not visible.
        visible: 255 where the photo shows the crop, else 0, uint8 `(V, 1, side, side)`.
        overview: The whole frame and the visible share of each of its pixels, uint8 `(V, 4, o, o)`.
    """

    views: Tensor
    visible: Tensor
    overview: Tensor


def draw_light(
    rng: np.random.Generator, views: Viewpoints, environment: Environment, light: Light, *, dirty: bool
) -> LiveLight:
    """Draw how flash and surroundings light a capture.

    Args:
        rng: Source of the draw.
        views: The cameras.
        environment: The surroundings.
        light: The distributions.
        dirty: Whether its taker stands in the light of a lit room.
    """
    count = len(views.positions)
    # Half of the visits are lit as usual, so that a wide range does not make the usual rare.
    ambient = rng.uniform(*light.ambient)
    usual = rng.uniform(*light.usual_ambient)
    if rng.random() < 0.5:
        ambient = usual
    if dirty:
        ambient = rng.uniform(0.25, 0.5)
    if rng.random() < light.flashless:
        ambient = 1.0
    offset = None
    length = rng.uniform(*light.offset_length)
    heading = rng.uniform(0, 2 * math.pi)
    if rng.random() < light.offset:
        # The flash sits beside the lens on the back of the phone, which is held alike in all photos.
        offset = torch.tensor([length * math.cos(heading), length * math.sin(heading), 0.0]).repeat(count, 1)
    # Who takes a clean photo keeps out of the light.
    shadow = None
    if dirty:
        # The taker stands at the lower edge, within 40° of it, and hides a part of the surroundings.
        stand = -math.pi / 2 + np.radians(rng.uniform(-40, 40)) + rng.uniform(-0.2, 0.2, count)
        elevation = np.radians(rng.uniform(30, 60, count))
        across = np.cos(elevation)
        towards = np.stack((np.cos(stand) * across, np.sin(stand) * across, np.sin(elevation)), axis=1)
        radius = math.radians(rng.uniform(15, 35))
        # A body at arm's length takes a tenth to a half of the diffuse light.
        diffuse = torch.from_numpy(rng.uniform(0.4, 0.9, count)).float()
        shadow = Shadow(torch.from_numpy(towards).float(), math.cos(radius), diffuse)
    return LiveLight(environment, rng.uniform(0, 2 * math.pi), ambient, offset, shadow)


def photograph(
    rng: np.random.Generator,
    crop: tuple[SurfaceValues, CropGrid],
    overview: SurfaceValues,
    views: Viewpoints,
    light: LiveLight,
    errors: Errors,
) -> AlignedPhotos:
    """Photograph a material and align the photos, all at once.

    Args:
        rng: Source of the sensor's noise.
        crop: The material at `CropGrid.shaded`, and that crop.
        overview: The material at `frame_points`, `OVERVIEW_POINTS` along each side of the overview's pixels.
        views: The cameras.
        light: The light.
        errors: What cameras and registration do.
    """
    values, grid = crop
    count = len(views.positions)
    frame_side = math.isqrt(overview.roughness.shape[0])
    whole = frame_points(frame_side)
    # Crop and frame are shaded in one go: half as many calls.
    joined = SurfaceValues(*(np.concatenate(pair, axis=-1) for pair in zip(values, overview, strict=True)))
    shaded = grid.shaded()
    light_seen = radiance(joined, np.concatenate((shaded, whole)), views.positions, light)
    side = (grid.side + 2 * MARGIN) * grid.scale
    crop_light = light_seen[..., : len(shaded)].reshape(count, 3, side, side)
    frame_light = light_seen[..., len(shaded) :].reshape(count, 3, frame_side, frame_side)

    covered = _visible(views, whole, grid.photo).reshape(count, 1, frame_side, frame_side)
    frame_visible = torch.from_numpy(covered).float()
    shown = _visible(views, grid.pixels(), grid.photo)
    visible = torch.from_numpy(shown).view(count, 1, grid.side, grid.side)

    gains = exposure_gains(errors, frame_light, frame_visible)
    crop_light = crop_light * gains
    frame_light = frame_light * gains
    recorded = develop_crop(rng, crop_light, frame_light, views, errors, grid)
    # A pixel that a photo does not show at all is black, as it is in an aligned photo.
    encoded = linear_to_srgb(tone_curve(frame_light)) * frame_visible
    shares = F.avg_pool2d(frame_visible, OVERVIEW_POINTS)
    # What a view does not see is 0, so the mean over all points is divided by the share that it sees.
    colors = F.avg_pool2d(encoded, OVERVIEW_POINTS) / shares.clamp_min(1e-6)
    small = (torch.cat((colors.clamp_max(1), shares), dim=1) * 255).round().to(torch.uint8)
    return AlignedPhotos(recorded * visible, visible.to(torch.uint8) * 255, small)


def _visible(views: Viewpoints, points: Array, photo: int) -> np.ndarray:
    """Whether each photo shows points, `(V, N)`: its outermost half pixels cannot be interpolated and do not count."""
    at, depth = project(views.homographies, points)
    # Interpolation needs four pixels, so a photo ends at the centres of its outermost ones.
    low = (0.5 - _SLACK) / photo
    high = 1 - (0.5 - _SLACK) / photo
    inside = (at >= low) & (at <= high)
    shown: np.ndarray = inside.all(1) & (depth[:, 0] > 0)
    return shown
