"""Random lights and cameras over a crop of material."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_LARGEST = 0.95
"""Largest squared sine of the tilt that is drawn, which is a tilt of 77°. Beyond it a flat surface shows next to
nothing."""

_LOG_DISTANCE_MEAN = 0.5
_LOG_DISTANCE_DEVIATION = 0.75
"""Mean and deviation of the logarithm of the distance of nearby lights and cameras; the crop's longer side is 2."""


class Scene(NamedTuple):
    """One light and one camera for each sample of a batch.

    Attributes:
        light: Unit vectors to the light in the texture's tangent space, `(B, 3, H, W)`; `(B, 3, 1, 1)` for a distant
            light, whose direction is the same at every pixel.
        view: Unit vectors to the camera; same shapes.
    """

    light: Tensor
    view: Tensor


def sample_scenes(random: int, mirrored: int, batch: int, size: tuple[int, int], device: torch.device) -> list[Scene]:
    """Draw lights and cameras from torch's global CPU generator, so that every device draws the same ones.

    Args:
        random: Scenes with light and camera far away, in independent directions.
        mirrored: Scenes with both close to the surface, in mirror directions about a random point of it.
        batch: Number of samples; each has a light and a camera of its own.
        size: Height and width of the crop in pixels; its longer side measures 2.
        device: Device of the result.

    Returns:
        The scenes, distant ones first.

    Source: Deschaintre et al. 2018, section 4.2 (directions are cosine-weighted; the logarithm of each nearby distance
    is normal with mean 0.5 and deviation 0.75).
    """
    # Points of the crop: x to the right, y up, both 0 at its centre.
    height, width = size
    longer = max(size)
    x = (2 * torch.arange(width) + 1 - width) / longer
    y = (height - 1 - 2 * torch.arange(height)) / longer
    plane = torch.stack((x.expand(height, width), y[:, None].expand(height, width), torch.zeros(height, width)))
    plane = plane.to(device)

    # The order of the draws is part of a run's result: all distant scenes first, in each the light before the camera.
    scenes: list[Scene] = []
    for _ in range(random):
        light = _directions(batch).to(device)
        view = _directions(batch).to(device)
        scenes.append(Scene(light, view))
    scenes.extend(_nearby(batch, plane) for _ in range(mirrored))
    return scenes


def _nearby(batch: int, plane: Float[Tensor, "3 H W"]) -> Scene:
    """Draw a light and a camera close to the plane, each in the other's mirror direction about a point of the plane."""
    towards_view = _directions(batch)
    # A mirror in the plane turns the direction by half a circle about the plane's normal.
    towards_light = towards_view * towards_view.new_tensor([-1.0, -1.0, 1.0]).view(3, 1, 1)
    height, width = plane.shape[-2:]
    extent = torch.tensor([width, height, 0]) / max(height, width)
    point = (extent * (2 * torch.rand(batch, 3) - 1))[..., None, None]
    light = point + towards_light * _distances(batch)
    view = point + towards_view * _distances(batch)
    # Drawn on the CPU, and moved before they meet the plane: only a few numbers cross to the device.
    return Scene(
        F.normalize(light.to(plane.device) - plane, dim=1),
        F.normalize(view.to(plane.device) - plane, dim=1),
    )


def _directions(batch: int) -> Float[Tensor, "B 3 1 1"]:
    """Draw cosine-weighted directions of the upper hemisphere."""
    # Malley's method: points that are uniform in a disc, lifted onto the hemisphere. The squared radius is uniform.
    squared_sine = _LARGEST * torch.rand(batch)
    azimuth = 2 * math.pi * torch.rand(batch)
    sine = squared_sine.sqrt()
    components = (sine * azimuth.cos(), sine * azimuth.sin(), (1 - squared_sine).sqrt())
    return torch.stack(components, dim=1)[..., None, None]


def _distances(batch: int) -> Float[Tensor, "B 1 1 1"]:
    return (_LOG_DISTANCE_MEAN + _LOG_DISTANCE_DEVIATION * torch.randn(batch, 1, 1, 1)).exp()
