"""Views back into the texture frame, and where the camera is seen from there.

All arithmetic on coordinates is elementwise and in float32: matrix products would lose digits under autocast or TF32.
"""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_PIXEL_SLACK = 1e-3
"""Pixels by which a tap may leave a view, so that rounding does not hide border pixels that coincide with it."""

_MOST_TAPS = 8
_LEEWAY = 0.15
"""Missing points, as a share of one, that do not call for another: perspective makes fineness vary by that much."""


def identity_frame(batch: int) -> Float[Tensor, "B 3 3"]:
    """The frame of a crop that is the whole texture, unturned."""
    return torch.eye(3).repeat(batch, 1, 1)


def warp_views(
    views: Float[Tensor, "B V C h w"],
    homographies: Float[Tensor, "B V 3 3"],
    frame: Float[Tensor, "B 3 3"],
    size: int,
    taps: int = 1,
) -> tuple[Float[Tensor, "B V C S S"], Float[Tensor, "B V 1 S S"]]:
    """Resample views into a crop of the texture frame.

    Every pixel of the crop averages taps × taps points of its square, each interpolated bilinearly.

    Args:
        views: Photos, any channels and range.
        homographies: Texture to view, one for each view.
        frame: Crop to texture, one for each sample.
        size: Side of the crop in pixels.
        taps: Points along each side of a pixel; `taps_needed` says how many keep views finer than the crop from
            aliasing.

    Returns:
        The aligned views, 0 where a view does not see the crop, and the mask of what it sees: 1 where the point is in
        front of the camera and all four pixels that are blended lie in the view, else 0.
    """
    height, width = views.shape[-2:]
    to_view = _compose(homographies.float(), frame.float()[:, None])
    centres = _pixel_centres(size, views.device)
    column, row, w = _view_pixels(to_view, centres, (height, width))
    visible = (w > 0) & _inside(column, width) & _inside(row, height)
    if taps == 1:
        aligned = _sample(views, column, row, visible)
    else:
        aligned = torch.zeros_like(views[..., :1, :1]).repeat(1, 1, 1, size, size)
        for down, right in itertools.product(_offsets(taps, size), repeat=2):
            column, row, _ = _view_pixels(to_view, (centres[0] + right, centres[1] + down), (height, width))
            aligned += _sample(views, column, row, visible) / taps**2
    mask = visible[:, :, None].to(views.dtype)
    return aligned * mask, mask


def taps_needed(
    homographies: Float[Tensor, "B V 3 3"], frame: Float[Tensor, "B 3 3"], sides: tuple[int, int], size: int
) -> int:
    """How many points along each side of a crop's pixel keep views that are finer than the crop from aliasing.

    Interpolation spreads each point over two pixels of the view, so half as many points as the view is finer are
    enough, and more would only blur (`benchmarks/view_size.py`).

    Args:
        homographies: Texture to view; on the CPU, or reading the answer waits for the device.
        frame: Crop to texture.
        sides: Height and width of the views in pixels.
        size: Side of the crop in pixels.

    Returns:
        Half the mean fineness of the views at the crop's centre, rounded up, from 1 to 8.
    """
    to_view = _compose(homographies.float(), frame.float()[:, None])
    middle = torch.full((1, 1), 0.5, device=to_view.device)
    step = 0.5 / size
    corner, right, below = (
        torch.stack(_view_pixels(to_view, (middle + x, middle + y), sides)[:2])
        for x, y in ((0.0, 0.0), (step, 0.0), (0.0, step))
    )
    (a, c), (b, d) = (right - corner) * 2, (below - corner) * 2
    fineness = (a * d - b * c).abs().sqrt().nan_to_num(0.0, 0.0, 0.0).mean()
    return min(max(1, math.ceil(float(fineness) / 2 - _LEEWAY)), _MOST_TAPS)


def view_directions(
    positions: Float[Tensor, "B V 3"], frame: Float[Tensor, "B 3 3"], size: int
) -> Float[Tensor, "B V 3 S S"]:
    """Unit vectors from each point of a crop to each camera, in the tangent space of the crop.

    Args:
        positions: Cameras in world units.
        frame: Crop to texture, one for each sample.
        size: Side of the crop in pixels.

    Returns:
        Unit vectors. A flipped or turned crop has them flipped or turned as its normals are.
    """
    u, v, _ = _transform(frame.float(), _pixel_centres(size, positions.device))
    points = torch.stack((u - 0.5, 0.5 - v, torch.zeros_like(u)), dim=1)
    towards = F.normalize(positions.float()[..., None, None] - points[:, None], dim=2)
    return vectors_in_crop(towards, frame)


def vectors_in_crop(vectors: Float[Tensor, "B V 3 H W"], frame: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B V 3 H W"]:
    """Express vectors given in the texture's tangent space in the crop's.

    Args:
        vectors: x along +u, y against +v, z off the surface, of the texture.
        frame: Crop to texture, one for each sample.

    Returns:
        The same vectors by the crop's axes: lengths are kept, flips and turns are applied.
    """
    axes = F.normalize(frame.float()[:, :2, :2], dim=1)
    right, down = axes[:, None, :, :, None, None].unbind(dim=3)
    x, y, z = vectors.unbind(dim=2)
    # In image axes a vector is (x, -y); its component against the crop's "down" is the crop's y.
    crop_x = x * right[:, :, 0] - y * right[:, :, 1]
    crop_y = y * down[:, :, 1] - x * down[:, :, 0]
    return torch.stack((crop_x, crop_y, z), dim=2)


def _pixel_centres(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    return centres[None, :], centres[:, None]


def _compose(left: Float[Tensor, "*#batch 3 3"], right: Float[Tensor, "*#batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    return (left[..., :, :, None] * right[..., None, :, :]).sum(dim=-2)


def _transform(matrix: Float[Tensor, "*batch 3 3"], points: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Apply a matrix to every (u, v, 1) of a grid; each result is `(*batch, S, S)`."""
    u, v = points
    a, b, c = matrix[..., None, None].unbind(dim=-3)
    x, y, w = (a * u + b * v + c).unbind(dim=-3)
    return x, y, w


def _view_pixels(to_view: Tensor, points: tuple[Tensor, Tensor], sides: tuple[int, int]) -> tuple[Tensor, ...]:
    """Column, row and depth in each view of points of the crop; whole numbers are pixel centres."""
    x, y, w = _transform(to_view, points)
    return x / w * sides[1] - 0.5, y / w * sides[0] - 0.5, w


def _offsets(taps: int, size: int) -> list[float]:
    """Where the taps along a side of a pixel lie, from its centre, as shares of the crop."""
    return [((tap + 0.5) / taps - 0.5) / size for tap in range(taps)]


def _sample(views: Tensor, column: Tensor, row: Tensor, visible: Tensor) -> Float[Tensor, "B V C S S"]:
    height, width = views.shape[-2:]
    grid = torch.stack(((2 * column + 1) / width - 1, (2 * row + 1) / height - 1), dim=-1)
    # Coordinates behind the camera may be huge or not numbers; the mask removes whatever they would fetch.
    grid = torch.where(visible[..., None], grid, 0.0)
    sampled = F.grid_sample(
        views.flatten(0, 1), grid.flatten(0, 1).to(views.dtype), padding_mode="border", align_corners=False
    )
    return sampled.view(*views.shape[:3], *column.shape[-2:])


def _inside(position: Tensor, extent: int) -> Tensor:
    return (position >= -_PIXEL_SLACK) & (position <= extent - 1 + _PIXEL_SLACK)
