"""Random lights and cameras over a crop of material."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_LARGEST = 0.95
"""Largest squared sine of the tilt that is drawn: up to 77°. Beyond, a flat surface shows next to nothing."""
_LOG_DISTANCE = (0.5, 0.75)
"""Mean and deviation of the logarithm of the distance of nearby lights and cameras; the crop's side is 2."""


class Scene(NamedTuple):
    """One light and one camera for each sample of a batch.

    Attributes:
        light: Unit vectors to the light, `(B, 3, H, W)`, or `(B, 3, 1, 1)` from a distance.
        view: Unit vectors to the camera, likewise.
    """

    light: Tensor
    view: Tensor


def sample_scenes(random: int, mirrored: int, batch: int, size: tuple[int, int], device: torch.device) -> list[Scene]:
    """Draw lights and cameras from torch's global CPU generator, so that every device draws the same ones.

    Args:
        random: Scenes with light and camera far away, in independent directions.
        mirrored: Scenes with both close to the surface, in mirror directions about a random point of it.
        batch: Samples; each has its own.
        size: Height and width of the crop in pixels; its longer side measures 2.
        device: Where the result is wanted.

    Source: Deschaintre et al. 2018, section 4.2 (directions are cosine-weighted; the logarithm of each nearby distance
    is normal with mean 0.5 and deviation 0.75).
    """
    plane = _plane(*size).to(device)
    scenes = [_distant(batch, device) for _ in range(random)]
    return scenes + [_nearby(batch, plane) for _ in range(mirrored)]


def _distant(batch: int, device: torch.device) -> Scene:
    light, view = (_directions(batch).to(device) for _ in range(2))
    return Scene(light, view)


def _nearby(batch: int, plane: Float[Tensor, "3 H W"]) -> Scene:
    towards = _directions(batch)
    mirror = towards * towards.new_tensor([-1.0, -1.0, 1.0]).view(3, 1, 1)
    across = plane.shape[-2:]
    extent = torch.tensor([across[1], across[0], 0]) / max(across)
    about = (extent * (2 * torch.rand(batch, 3) - 1))[..., None, None]
    light, view = (
        F.normalize((about + direction * _distances(batch)).to(plane.device) - plane, dim=1)
        for direction in (mirror, towards)
    )
    return Scene(light, view)


def _directions(batch: int) -> Float[Tensor, "B 3 1 1"]:
    """Cosine-weighted directions of the upper hemisphere (a disc's points lifted onto it: Malley's method)."""
    squared_sine, azimuth = _LARGEST * torch.rand(batch), 2 * math.pi * torch.rand(batch)
    sine = squared_sine.sqrt()
    components = (sine * azimuth.cos(), sine * azimuth.sin(), (1 - squared_sine).sqrt())
    return torch.stack(components, dim=1)[..., None, None]


def _distances(batch: int) -> Float[Tensor, "B 1 1 1"]:
    mean, deviation = _LOG_DISTANCE
    return (mean + deviation * torch.randn(batch, 1, 1, 1)).exp()


def _plane(height: int, width: int) -> Float[Tensor, "3 H W"]:
    """Points of the crop, x to the right, y up."""
    x = (2 * torch.arange(width) + 1 - width) / max(height, width)
    y = (height - 1 - 2 * torch.arange(height)) / max(height, width)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width), torch.zeros(height, width)))
