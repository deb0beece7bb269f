"""Where a camera was, from how it sees a plane: the focal length that photos share, and each one's pose.

The camera is a pinhole with square pixels and its principal point at the centre of the photo. Image coordinates are
*centred* here: the origin in the middle of the photo, x to the right, y down, in units of its shorter side. So a focal
length is in shorter sides too, and does not change when a photo is resized or squeezed into a square file.
A *plane homography* takes points (x, y, 1) of the world's plane z = 0 to centred image coordinates times a depth.

Source: Z. Zhang, A Flexible New Technique for Camera Calibration, IEEE PAMI 22(11), 2000.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NOMINAL_FOCAL = 1.4
"""Focal length assumed when photos do not tell it, in shorter sides: the middle of what `cameras.sample_cameras` draws,
between a phone's whole 4:3 frame (1.0) and a square cut from its middle."""
FOCAL_RANGE = (0.5, 4.0)
"""Focal lengths that are believed; cameras of phones lie well within."""
_LEAST_SPREAD = 0.005
"""Least sum of squares that tells a focal length: what one view tilted by about 15° gives, sin⁴ of the tilt."""
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
    """Matrix from view coordinates in [0, 1]² to centred ones, for a photo of that many pixels."""
    x, y = width / min(width, height), height / min(width, height)
    return np.array([[x, 0.0, -x / 2], [0.0, y, -y / 2], [0.0, 0.0, 1.0]])


def plane_homography(homography: Array, width: int, height: int) -> Array:
    """Express a camera's homography between the world's plane and centred image coordinates.

    Args:
        homography: `(3, 3)`, texture (u, v, 1) to view (x, y, w) in [0, 1]², of either sign.
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.

    Returns:
        `(3, 3)`, scaled so that the depth of the tile's centre is 1.
    """
    plane = centring(width, height) @ homography @ _TEXTURE_FROM_WORLD
    scaled: Array = plane / plane[2, 2]
    return scaled


def focal_length(planes: Sequence[Array]) -> float | None:
    """Estimate the one focal length that all photos share.

    The first two columns of a plane homography are images of perpendicular world axes of one length. Each photo so
    gives two linear equations in 1 / f², which are solved together by least squares.

    Args:
        planes: One plane homography for each photo.

    Returns:
        The focal length in shorter sides; None when the photos do not tell it, as ones taken straight from above do
        not, or when what they tell lies outside `FOCAL_RANGE`.

    Source: Zhang 2000, section 2.3, equations 3 and 4, with the principal point and the aspect ratio known.
    """
    slopes, offsets = np.concatenate([_constraints(plane) for plane in planes], axis=1)
    spread = float(slopes @ slopes)
    if spread < _LEAST_SPREAD:
        return None
    inverse_square = -float(slopes @ offsets) / spread
    low, high = FOCAL_RANGE
    return inverse_square**-0.5 if high**-2 <= inverse_square <= low**-2 else None


def camera_pose(plane: Array, focal: float) -> Pose:
    """Recover the pose of a camera of known focal length.

    Args:
        plane: Plane homography.
        focal: Focal length in shorter sides, > 0.

    Returns:
        The pose. The rotation is the one nearest to what a homography with noise gives.

    Source: Zhang 2000, section 3.1 and appendix C.
    """
    columns = np.diag([1 / focal, 1 / focal, 1.0]) @ plane
    columns = columns / np.sqrt(np.linalg.norm(columns[:, 0]) * np.linalg.norm(columns[:, 1]))
    right, up, translation = columns.T
    left, _, rest = np.linalg.svd(np.column_stack((right, up, np.cross(right, up))))
    rotation: Array = left @ rest
    return Pose(rotation, -rotation.T @ translation)


def _constraints(plane: Array) -> Array:
    """Slopes and offsets of the two equations slope / f² + offset = 0, whatever the size of the tile in the photo."""
    (x1, y1, w1), (x2, y2, w2) = plane[:, 0], plane[:, 1]
    perpendicular = (x1 * x2 + y1 * y2, w1 * w2)
    equal = (x1 * x1 + y1 * y1 - x2 * x2 - y2 * y2, w1 * w1 - w2 * w2)
    rows: Array = np.array([perpendicular, equal]).T / (np.hypot(x1, y1) * np.hypot(x2, y2))
    return rows
