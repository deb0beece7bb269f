"""Cameras that frame the tile, all views of a capture at once; what `materials.cameras` does, for a loader's threads.

Units and frames are those of `materials.cameras`.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuropbr_core.materials.live.options import Cameras

Array = npt.NDArray[np.float64]

_STEPS = 8  # of an iteration after which the tile is within 0.6 % of the size that the default cameras ask for
_CENTRE_TO_CORNER = 0.71  # in sides of the tile
_CORNERS = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
_CENTRE = np.array([0.5, 0.5, 1.0])
# From (u, v, 1) to the point of the plane z = 0 in world units.
_TO_WORLD = np.array([[1.0, 0.0, -0.5], [0.0, -1.0, 0.5], [0.0, 0.0, 0.0]])


class Viewpoints(NamedTuple):
    """The cameras of a capture.

    Attributes:
        homographies: Texture (u, v, 1) to view (x, y, w), `(V, 3, 3)`.
        positions: Lenses in world units, `(V, 3)`.
    """

    homographies: Array
    positions: Array


def draw_viewpoints(rng: np.random.Generator, views: int, cameras: Cameras) -> Viewpoints:
    """Draw the cameras of a capture: the first from about above, the others tilted, each to a side of its own.

    Args:
        rng: Source of the draw.
        views: Number of cameras, at least 1.
        cameras: The distributions.
    """
    near, far = cameras.distance
    fill = rng.uniform(*cameras.fill, views)
    fill[0] = rng.uniform(*cameras.first_fill)
    # One lens takes all photos; its focal length follows from how far away the first one is taken.
    focal = fill[0] * near * (far / near) ** rng.random()
    tilt = np.radians(rng.uniform(*cameras.tilt, views))
    tilt[0] = math.radians(rng.uniform(*cameras.first_tilt))
    # Sides a third of a circle apart, so that two tilted flashes never oppose each other, as in `sample_cameras`.
    step = 2 * math.pi / max(views - 1, 3)
    azimuth = rng.uniform(0, 2 * math.pi) + step * (np.arange(views) + rng.uniform(-0.25, 0.25, views))
    # People hold phones about upright, whatever side they stand on.
    roll = np.radians(rng.uniform(-cameras.roll, cameras.roll, views))
    towards = np.stack((np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)), axis=1)
    return frame_tile(towards, focal, fill, roll)


def frame_tile(towards: Array, focal: float, fill: Array, roll: Array) -> Viewpoints:
    """Move each camera along its direction until the tile's bounding box is centred and as large as asked.

    Args:
        towards: Unit vectors from the tile to the cameras, `(V, 3)`.
        focal: Focal length in sides of the photo.
        fill: Longer side of the tile's bounding box in sides of the photo, `(V,)`.
        roll: Turn about the optical axis in radians, `(V,)`.
    """
    # A camera straight above is right at once; tilted ones move closer and aim nearer to the far edge.
    # From where no corner is behind a camera, however near it is asked to be.
    distance = focal / fill + _CENTRE_TO_CORNER * np.hypot(towards[:, 0], towards[:, 1])
    aim = np.zeros((len(fill), 2))
    for _ in range(_STEPS):
        homographies = _look_at(towards * distance[:, None], aim, focal, roll)
        shown = _CORNERS @ homographies.transpose(0, 2, 1)
        shown = shown[..., :2] / shown[..., 2:]
        low = shown.min(1)
        high = shown.max(1)
        middle = np.concatenate(((low + high) / 2, np.ones((len(fill), 1))), axis=1)
        centre = np.linalg.solve(homographies, middle[..., None])[..., 0]
        centre = centre[:, :2] / centre[:, 2:]
        aim = np.stack((centre[:, 0] - 0.5, 0.5 - centre[:, 1]), axis=1)
        # Right at once where the tile's size is focal / (distance - d) with the same d, as it nearly is.
        distance = distance + focal * (1 / fill - 1 / (high - low).max(1))
    positions = towards * distance[:, None]
    return Viewpoints(_look_at(positions, aim, focal, roll), positions)


def _look_at(positions: Array, aim: Array, focal: float, roll: Array) -> Array:
    """`cameras.look_at` for several cameras."""
    # Plain arithmetic on columns: on so few numbers, each of numpy's linear algebra calls costs more than all of this.
    x = aim[:, 0] - positions[:, 0]
    y = aim[:, 1] - positions[:, 1]
    z = -positions[:, 2]
    length = np.sqrt(x * x + y * y + z * z)
    x = x / length
    y = y / length
    z = z / length
    # right = forward × (0, 1, 0), made unit; up = right × forward.
    flat = np.sqrt(x * x + z * z)
    right = np.stack((-z / flat, np.zeros_like(z), x / flat), axis=1)
    up = np.stack((-right[:, 2] * y, right[:, 2] * x - right[:, 0] * z, right[:, 0] * y), axis=1)
    cosine = np.cos(roll)[:, None]
    sine = np.sin(roll)[:, None]
    axes = np.empty((len(aim), 3, 3))
    axes[:, 0] = cosine * right - sine * up
    axes[:, 1] = sine * right + cosine * up
    axes[:, 2] = np.stack((x, y, z), axis=1)
    # (u, v, 1) is the point (u - 0.5, 0.5 - v, 0), seen from the lens.
    offset = np.repeat(_TO_WORLD[None], len(aim), axis=0)
    offset[:, :, 2] -= positions
    lens = np.array([[focal, 0.0, 0.5], [0.0, -focal, 0.5], [0.0, 0.0, 1.0]])
    homographies: Array = lens @ axes @ offset
    # A homography is known up to a factor; w = 1 at the tile's centre is what `Camera` promises.
    depth = homographies[:, 2] @ _CENTRE
    homographies /= depth[:, None, None]
    return homographies


def project(homographies: Array, points: Array) -> tuple[Array, Array]:
    """Where cameras see points of the texture.

    Args:
        homographies: Texture to view, `(V, 3, 3)`.
        points: Texture coordinates `(N, 2)`.

    Returns:
        Photo coordinates `(V, 2, N)` in [0, 1] inside the photo, and depth `(V, 1, N)`, above 0 in front of the camera.
    """
    across = homographies[:, :, :2] @ points.T + homographies[:, :, 2:]
    depth = across[:, 2:]
    # Behind the camera the quotient means nothing; callers look at the depth.
    at: Array = across[:, :2] / np.where(depth > 0, depth, 1.0)
    return at, depth
