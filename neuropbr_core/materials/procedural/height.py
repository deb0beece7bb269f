"""Normals of a height field.

Slopes are central differences that wrap around, so they sum to zero over the tile and have exactly no curl. Heights and
positions share a unit (tiles), which makes slopes independent of the number of samples.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.vectors import unit


def slopes(height: Float[Tensor, "S S"]) -> Float[Tensor, "2 S S"]:
    """Compute the slopes of a height field along world x (right) and y (up).

    Args:
        height: Height over the tile, in tiles.

    Returns:
        ∂h/∂x and ∂h/∂y. v points down, so ∂h/∂y = -∂h/∂v.

    Source: central differences, (h(x + d) - h(x - d)) / 2d, of second order (Fornberg 1988, table 1).
    """
    half = height.shape[-1] / 2
    right = torch.roll(height, -1, 1) - torch.roll(height, 1, 1)
    up = torch.roll(height, 1, 0) - torch.roll(height, -1, 0)
    return torch.stack((right, up)) * half


def normals(slope: Float[Tensor, "2 S S"]) -> Float[Tensor, "3 S S"]:
    """Compute unit normals, OpenGL: normalize((-∂h/∂x, -∂h/∂y, 1)).

    Args:
        slope: Slopes ∂h/∂x and ∂h/∂y.

    Returns:
        Unit normals in the world.

    Source: the normal of a graph z = h(x, y); Blinn 1978, "Simulation of Wrinkled Surfaces", for a flat base.
    """
    up = torch.ones_like(slope[:1])
    return unit(torch.cat((-slope, up)))
