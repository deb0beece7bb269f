"""Pinhole cameras with square pixels over the texture tile, and how a person holds a phone over it."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.sampling import uniform

_OVERHEAD_TILT = (0.0, math.radians(5))
_SIDE_TILT = (math.radians(20), math.radians(40))
_ROLL = math.radians(3)
_FOCAL = (1.1, 1.8)
"""Focal lengths in sides of the photo: 49° to 31° across, what is left of a phone's main lens in a square crop."""
_OVERHEAD_FILL = (0.92, 0.99)
_SIDE_FILL = (0.95, 1.08)
_FRAMING_STEPS = 10
_CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))


class Camera(NamedTuple):
    """A view of the plane.

    Attributes:
        homography: `(3, 3)`, texture (u, v, 1) to view (x, y, 1) times w; w > 0 in front of the camera, and w = 1 at
            the centre of the tile.
        position: `(3,)`, the lens in world units.
    """

    homography: Tensor
    position: Tensor


def look_at(position: Float[Tensor, "3"], aim: Float[Tensor, "2"], focal: float, roll: float = 0.0) -> Camera:
    """Point a camera at the plane with the top of the photo towards +y.

    Args:
        position: The lens, in world units, z > 0.
        aim: The point (x, y) of the plane that appears at the centre of the photo.
        focal: Focal length in sides of the photo.
        roll: Turn about the optical axis in radians; a positive one turns the picture counter-clockwise.

    Returns:
        The camera, in the type and on the device of `position`.

    Source: Hartley and Zisserman, Multiple View Geometry (2nd ed.), 6.1 and 8.1.1 (camera and a world plane).
    """
    axes = _view_axes(position, aim, roll)
    to_world = position.new_tensor([[1.0, 0.0, -0.5], [0.0, -1.0, 0.5], [0.0, 0.0, 0.0]])
    lens = position.new_tensor([[focal, 0.0, 0.5], [0.0, -focal, 0.5], [0.0, 0.0, 1.0]])
    offset = to_world - torch.outer(position, position.new_tensor([0.0, 0.0, 1.0]))
    homography = lens @ axes @ offset
    depth_of_centre = homography[2] @ position.new_tensor([0.5, 0.5, 1.0])
    return Camera(homography / depth_of_centre, position)


def _view_axes(position: Float[Tensor, "3"], aim: Float[Tensor, "2"], roll: float) -> Float[Tensor, "3 3"]:
    """Rows: right, up and forward of the camera in the world."""
    forward = torch.cat((aim, aim.new_zeros(1))) - position
    forward = forward / forward.norm()
    right = torch.linalg.cross(forward, position.new_tensor([0.0, 1.0, 0.0]))
    right = right / right.norm()
    up = torch.linalg.cross(right, forward)
    cos, sin = math.cos(roll), math.sin(roll)
    return torch.stack((cos * right - sin * up, sin * right + cos * up, forward))


def project(homography: Float[Tensor, "3 3"], points: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
    """Apply a homography to points; with its inverse, take view points back to the texture.

    Args:
        homography: From the frame of `points` to another.
        points: Coordinates in the first frame.

    Returns:
        Coordinates in the second frame.
    """
    moved = torch.cat((points, torch.ones_like(points[:, :1])), dim=1) @ homography.T
    return moved[:, :2] / moved[:, 2:]


def sample_cameras(generator: torch.Generator, views: int) -> list[Camera]:
    """Draw the cameras of one capture by hand-held phone.

    One lens for all. The first view is taken from nearly straight above (tilt up to 5°) and shows the whole tile; each
    other one is tilted by 20 to 40° towards a side of its own and moved until the tile about fills the photo. Sides lie
    a third of a circle apart for up to four views, then evenly, so that two tilted views never oppose each other: a
    pair of opposite flashes would tell slopes along one axis only. The photo stays upright within 3°.

    Args:
        generator: Source of all randomness, on the CPU.
        views: Number of cameras, at least 1.

    Returns:
        The cameras, float32 on the CPU.
    """
    focal = uniform(generator, *_FOCAL)
    around = uniform(generator, 0.0, 2 * math.pi)
    step = _side_step(views)
    cameras = [_hand_held(generator, focal, around, overhead=True)]
    for side in range(views - 1):
        azimuth = around + step * (side + uniform(generator, -0.25, 0.25))
        cameras.append(_hand_held(generator, focal, azimuth, overhead=False))
    return cameras


def nominal_cameras(views: int) -> list[Camera]:
    """The usual capture: the middle of everything that `sample_cameras` draws.

    The first view is taken from straight above, the next one tilted by 30° towards +x, the others as far and spread
    evenly, counter-clockwise.

    Args:
        views: Number of cameras, at least 1.

    Returns:
        The cameras, float32 on the CPU.
    """
    focal, tilt = _middle(_FOCAL), _middle(_SIDE_TILT)
    cameras = [_towards(0.0, 0.0, focal, _middle(_OVERHEAD_FILL), 0.0)]
    step = _side_step(views)
    cameras += [_towards(tilt, side * step, focal, _middle(_SIDE_FILL), 0.0) for side in range(views - 1)]
    return cameras


def _middle(bounds: tuple[float, float]) -> float:
    return sum(bounds) / 2


def _side_step(views: int) -> float:
    """Angle between the sides of two tilted views."""
    return 2 * math.pi / max(views - 1, 3)


def _hand_held(generator: torch.Generator, focal: float, azimuth: float, *, overhead: bool) -> Camera:
    tilt = uniform(generator, *(_OVERHEAD_TILT if overhead else _SIDE_TILT))
    fill = uniform(generator, *(_OVERHEAD_FILL if overhead else _SIDE_FILL))
    roll = uniform(generator, -_ROLL, _ROLL)
    return _towards(tilt, azimuth, focal, fill, roll)


def _towards(tilt: float, azimuth: float, focal: float, fill: float, roll: float) -> Camera:
    direction = torch.tensor(
        [math.sin(tilt) * math.cos(azimuth), math.sin(tilt) * math.sin(azimuth), math.cos(tilt)], dtype=torch.float64
    )
    camera = _frame_tile(direction, focal, fill, roll)
    return Camera(camera.homography.float(), camera.position.float())


def _frame_tile(direction: Float[Tensor, "3"], focal: float, fill: float, roll: float) -> Camera:
    """Move along `direction` and aim until the tile's bounding box is centred and its longer side is `fill`."""
    corners = direction.new_tensor(_CORNERS)
    distance, aim = focal / fill, direction.new_zeros(2)
    for _ in range(_FRAMING_STEPS):
        camera = look_at(direction * distance, aim, focal, roll)
        seen = project(camera.homography, corners)
        low, high = seen.amin(0), seen.amax(0)
        centre = project(torch.linalg.inv(camera.homography), ((low + high) / 2)[None])[0]
        aim = torch.stack((centre[0] - 0.5, 0.5 - centre[1]))
        distance *= float((high - low).max()) / fill
    return look_at(direction * distance, aim, focal, roll)
