"""The part of each photo that a crop can show.

A crop of the texture appears in a photo as a quadrilateral; only its bounding box need be read and sent to the device.
The homography is adjusted to the box, so that warping it gives what warping the whole photo would.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Matrices = npt.NDArray[np.float64]
"""`(…, 3, 3)`."""

Corners = npt.NDArray[np.int64]
"""`(B, V, 2)`: left and upper edge of each box, in pixels."""

_MARGIN = 2
"""Pixels around the projected crop: bilinear interpolation reads one further, and float32 on the device may round."""

_STEP = 16
"""Sides are multiples of it: fewer different sizes of batch."""


def boxes(homographies: Matrices, crops: npt.NDArray[np.floating[Any]], size: int) -> tuple[Corners, tuple[int, int]]:
    """Find a box for each view of a batch; all have the same width and height.

    Args:
        homographies: Texture to view, `(B, V, 3, 3)`.
        crops: Crop to texture of each sample, `(B, 3, 3)`.
        size: Side of the views, in pixels.

    Returns:
        Where the boxes begin, and their width and height. They lie inside the view. What a crop shows of a view lies
        inside its box.
    """
    # A homography keeps lines straight, so the corners of the crop bound all of it.
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], np.float64).T
    x, y, w = np.moveaxis(homographies @ crops.astype(np.float64)[:, None] @ corners, -2, 0)
    behind = (w <= 0).any(-1)[..., None]
    depth = np.where(w > 0, w, 1.0)
    # From [0, 1] over the photo to pixels counted at their centres.
    points = np.stack((x / depth, y / depth), axis=-2) * size - 0.5
    low = np.floor(points.min(-1)).astype(np.int64) - _MARGIN
    high = np.ceil(points.max(-1)).astype(np.int64) + _MARGIN + 1
    low = np.where(behind, 0, low.clip(0, size - 1))  # a crop that reaches behind the camera has no bounding box
    high = np.where(behind, size, high.clip(1, size))
    # All boxes take the size of the largest, since a batch is one tensor.
    extent = (high - low).max(axis=(0, 1))
    sides = np.minimum(-(-extent // _STEP) * _STEP, size)
    width = int(sides[0])
    height = int(sides[1])
    # A box that was enlarged to the common size may reach over the right or lower edge, so it moves back inside.
    return np.minimum(low, (size - width, size - height)), (width, height)


def into_boxes(homographies: Matrices, corners: Corners, sides: tuple[int, int], size: int) -> Matrices:
    """Adjust homographies to views of which only a box is kept.

    Args:
        homographies: Texture to view, `(B, V, 3, 3)`.
        corners: Where the boxes begin.
        sides: Their width and height.
        size: Side of the whole views, in pixels.

    Returns:
        Texture to box, with coordinates in [0, 1] over the box.
    """
    # From coordinates over the photo to coordinates over the box: p · size is a pixel, less the corner, over the side.
    scaling = np.zeros((*corners.shape[:2], 3, 3))
    for axis, side in enumerate(sides):
        scaling[..., axis, axis] = size / side
        scaling[..., axis, 2] = -corners[..., axis] / side
    scaling[..., 2, 2] = 1.0
    adjusted: Matrices = scaling @ homographies
    return adjusted
