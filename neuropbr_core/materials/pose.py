"""Camera calibration from a plane: the focal length that photos share, and the pose of each camera.

The camera is a pinhole with square pixels and its principal point at the centre of the photo. Image coordinates are
*centred* in this module: their origin is the middle of the photo, x points to the right, y down, and the unit is its
shorter side. Focal lengths have the same unit, so they do not change when a photo is resized or squeezed into a square.
A *plane homography* takes points (x, y, 1) of the world's plane z = 0 to centred image coordinates times a depth.

Source: Z. Zhang, A Flexible New Technique for Camera Calibration, IEEE PAMI 22(11), 2000.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NOMINAL_FOCAL = 1.4
"""Focal length assumed when photos do not determine it, in shorter sides: about the middle of the range of
`cameras.sample_cameras`, above that of a phone's whole 4:3 photo (1.0)."""
FOCAL_RANGE = (0.5, 4.0)
"""Estimates outside this range are rejected; the cameras of phones are well inside."""
# Least sum of squares that determines a focal length: one view tilted by about 15° gives this much, sin⁴ of the tilt.
_LEAST_SPREAD = 0.005
# From world (x, y, 1) to texture (u, v, 1): u = x + 0.5, v = 0.5 - y.
_TEXTURE_FROM_WORLD: Array = np.array([[1.0, 0.0, 0.5], [0.0, -1.0, 0.5], [0.0, 0.0, 1.0]])


class Pose(NamedTuple):
    """A camera over the plane.

    Attributes:
        rotation: `(3, 3)`, world to camera; the camera looks along its +z, with x to the right and y down.
        position: `(3,)`, the lens in world units; z > 0.
    """

    rotation: Array
    position: Array

    @property
    def tilt(self) -> float:
        """Angle in radians between the optical axis and the plane's normal."""
        return float(np.arccos(np.clip(-self.rotation[2, 2], -1.0, 1.0)))


def centring(width: int, height: int) -> Array:
    """Return the matrix from view coordinates in [0, 1]² to centred coordinates.

    Args:
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.

    Returns:
        `(3, 3)`, affine.
    """
    shorter = min(width, height)
    x = width / shorter
    y = height / shorter
    return np.array([[x, 0.0, -x / 2], [0.0, y, -y / 2], [0.0, 0.0, 1.0]])


def plane_homography(homography: Array, width: int, height: int) -> Array:
    """Express a camera's homography between the world's plane and centred image coordinates.

    Args:
        homography: `(3, 3)`, texture (u, v, 1) to view (x, y, w) in [0, 1]², of either sign.
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.

    Returns:
        `(3, 3)`, world (x, y, 1) to centred image coordinates, scaled so that the depth of the tile's centre is 1.
    """
    plane = centring(width, height) @ homography @ _TEXTURE_FROM_WORLD
    scaled: Array = plane / plane[2, 2]
    return scaled


def focal_length(planes: Sequence[Array]) -> float | None:
    """Estimate the focal length that all photos share.

    The first two columns of a plane homography are images of perpendicular world axes of equal length. Each photo
    therefore gives two linear equations in 1 / f², which are solved together by least squares.

    Args:
        planes: One plane homography for each photo.

    Returns:
        The focal length in shorter sides. None when the photos do not determine it, as photos from straight above do
        not, or when the estimate is outside `FOCAL_RANGE`.

    Source: Zhang 2000, section 2.3, equations 3 and 4, with the principal point and the aspect ratio known.
    """
    equations = []
    for plane in planes:
        x1, y1, w1 = plane[:, 0]
        x2, y2, w2 = plane[:, 1]
        perpendicular = (x1 * x2 + y1 * y2, w1 * w2)
        equal = (x1 * x1 + y1 * y1 - x2 * x2 - y2 * y2, w1 * w1 - w2 * w2)
        # Divided by the axes' lengths, photos in which the tile is large count no more than others.
        equations.append(np.array([perpendicular, equal]).T / (np.hypot(x1, y1) * np.hypot(x2, y2)))
    # Each equation is slope / f² + offset = 0.
    slopes, offsets = np.concatenate(equations, axis=1)
    spread = float(slopes @ slopes)
    if spread < _LEAST_SPREAD:
        return None
    inverse_square = -float(slopes @ offsets) / spread
    low, high = FOCAL_RANGE
    # Compared as 1 / f², because noise can make it negative.
    if not high**-2 <= inverse_square <= low**-2:
        return None
    return float(inverse_square**-0.5)


def camera_pose(plane: Array, focal: float) -> Pose:
    """Recover the pose of a camera of known focal length.

    Args:
        plane: Plane homography.
        focal: Focal length in shorter sides, > 0.

    Returns:
        The pose. Its rotation is the one nearest to the matrix that a noisy homography gives.

    Source: Zhang 2000, section 3.1 and appendix C.
    """
    # With the lens divided out, the columns are the rotation's first two and the translation, times one factor: the
    # rotation's columns have length 1, so the geometric mean of both lengths is that factor.
    columns = np.diag([1 / focal, 1 / focal, 1.0]) @ plane
    columns = columns / np.sqrt(np.linalg.norm(columns[:, 0]) * np.linalg.norm(columns[:, 1]))
    right, up, translation = columns.T
    # Without its singular values, a matrix becomes the nearest orthogonal one.
    left, _, rest = np.linalg.svd(np.column_stack((right, up, np.cross(right, up))))
    rotation: Array = left @ rest
    return Pose(rotation, -rotation.T @ translation)
