"""Alignment: photos are resampled into the texture frame, where each texel's direction to the camera is known.

All arithmetic on coordinates is elementwise and in float32: matrix products would lose digits under autocast or TF32.
"""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# Pixels by which a tap may leave a view. Without slack, rounding would hide border pixels that coincide exactly.
_PIXEL_SLACK = 1e-3
# Bounds the cost of a warp: 8 × 8 taps a pixel.
_MOST_TAPS = 8
# Perspective makes the fineness of views vary by about this share of a tap, so a smaller shortage adds no tap.
_LEEWAY = 0.15


def identity_frame(batch: int) -> Float[Tensor, "B 3 3"]:
    """Return the frame of a crop that is the whole texture, neither flipped nor turned.

    Args:
        batch: Number of samples B.

    Returns:
        Identity matrices, float32 on the CPU.
    """
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
        taps: Points along each side of a pixel, at least 1; `taps_needed` computes how many prevent aliasing when views
            are finer than the crop.

    Returns:
        The aligned views, in the range of `views` and 0 where a view does not show the crop; and the visibility mask: 1
        where the pixel's centre is in front of the camera and all four blended pixels are inside the view, else 0.

    Source: Hartley and Zisserman, Multiple View Geometry (2nd ed.), 2.3 (transfer of points by a homography).
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
        # Positions of the taps along a side of a pixel, from its centre, as shares of the crop's side.
        offsets = [((tap + 0.5) / taps - 0.5) / size for tap in range(taps)]
        for down, right in itertools.product(offsets, repeat=2):
            column, row, _ = _view_pixels(to_view, (centres[0] + right, centres[1] + down), (height, width))
            # The centre's visibility holds for all taps; a tap beyond the border repeats the border's pixel.
            aligned += _sample(views, column, row, visible) / taps**2
    mask = visible[:, :, None].to(views.dtype)
    return aligned * mask, mask


def taps_needed(
    homographies: Float[Tensor, "B V 3 3"], frame: Float[Tensor, "B 3 3"], sides: tuple[int, int], size: int
) -> int:
    """Compute how many points along each side of a crop's pixel prevent aliasing when views are finer than the crop.

    Bilinear interpolation spreads each point over two pixels of the view. Half as many points as view pixels are
    therefore enough, and more would only blur (`benchmarks/view_size.py`).

    Args:
        homographies: Texture to view. Keep them on the CPU: otherwise this function waits for the device.
        frame: Crop to texture.
        sides: Height and width of the views in pixels.
        size: Side of the crop in pixels.

    Returns:
        Half the number of view pixels along a crop pixel's side, averaged over the views at the crop's centre, rounded
        up, from 1 to 8.
    """
    to_view = _compose(homographies.float(), frame.float()[:, None])
    middle = torch.full((1, 1), 0.5, device=to_view.device)
    step = 0.5 / size
    positions = []
    for x, y in ((0.0, 0.0), (step, 0.0), (0.0, step)):
        column, row, _ = _view_pixels(to_view, (middle + x, middle + y), sides)
        positions.append(torch.stack((column, row)))
    corner, right, below = positions
    # Columns of the Jacobian from crop pixels to view pixels; the steps were half a pixel, hence the factor.
    a, c = (right - corner) * 2
    b, d = (below - corner) * 2
    # A determinant is a ratio of areas, so its root is a ratio of lengths. A view from behind gives no number: count 0.
    fineness = (a * d - b * c).abs().sqrt().nan_to_num(0.0, 0.0, 0.0).mean()
    return min(max(1, math.ceil(float(fineness) / 2 - _LEEWAY)), _MOST_TAPS)


def view_directions(
    positions: Float[Tensor, "B V 3"], frame: Float[Tensor, "B 3 3"], size: int
) -> Float[Tensor, "B V 3 S S"]:
    """Compute unit vectors from each pixel of a crop to each camera, in the tangent space of the crop.

    Args:
        positions: Cameras (x, y, z) in world units, z > 0.
        frame: Crop to texture, one for each sample.
        size: Side of the crop in pixels.

    Returns:
        Unit vectors, float32. Flips and turns of the crop apply to them as they apply to its normals.
    """
    u, v, _ = _transform(frame.float(), _pixel_centres(size, positions.device))
    # From texture coordinates to the world: v points down, y up.
    points = torch.stack((u - 0.5, 0.5 - v, torch.zeros_like(u)), dim=1)
    # Not `vectors.unit`: crops are small, and its other rounding would change every run in its last digits.
    towards = F.normalize(positions.float()[..., None, None] - points[:, None], dim=2)
    return vectors_in_crop(towards, frame)


def vectors_in_crop(vectors: Float[Tensor, "B V 3 H W"], frame: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B V 3 H W"]:
    """Convert vectors from the texture's tangent space to the crop's.

    Args:
        vectors: Vectors along the texture's axes: x along +u, y against +v, z off the surface; any length.
        frame: Crop to texture, one for each sample.

    Returns:
        The same vectors along the crop's axes. Flips and turns are applied; lengths do not change.
    """
    # Normalized columns drop the window's scale and keep the turn and the flip.
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
    # A matrix product written as a sum: `@` would run in bfloat16 or TF32 when training does.
    return (left[..., :, :, None] * right[..., None, :, :]).sum(dim=-2)


def _transform(matrix: Float[Tensor, "*batch 3 3"], points: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Apply a matrix to every (u, v, 1) of a grid; each result is `(*batch, S, S)`."""
    u, v = points
    a, b, c = matrix[..., None, None].unbind(dim=-3)
    x, y, w = (a * u + b * v + c).unbind(dim=-3)
    return x, y, w


def _view_pixels(to_view: Tensor, points: tuple[Tensor, Tensor], sides: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return column, row and depth of the crop's points in each view; whole numbers are pixel centres."""
    x, y, w = _transform(to_view, points)
    return x / w * sides[1] - 0.5, y / w * sides[0] - 0.5, w


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
