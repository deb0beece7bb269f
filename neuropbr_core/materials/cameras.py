"""Pinhole cameras with square pixels over the texture tile, placed as a person holds a phone."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.sampling import uniform

# Ranges of the angle between the optical axis and the plane's normal, for the first and for the other photos.
_OVERHEAD_TILT = (0.0, math.radians(5))
_SIDE_TILT = (math.radians(20), math.radians(40))
# Largest turn of a photo about its optical axis, to either side: hands do not hold phones exactly upright.
_ROLL = math.radians(3)
# Focal lengths in sides of the photo: 49° to 31° across, which a square crop leaves of a phone's main lens.
_FOCAL = (1.1, 1.8)
# Share of the photo's side that the tile takes. Overhead photos show the whole tile; tilted ones may cut its corners.
_OVERHEAD_FILL = (0.92, 0.99)
_SIDE_FILL = (0.95, 1.08)
# The framing is a fixed-point iteration; after ten steps homographies are within 1e-4 of its limit.
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
    forward = torch.cat((aim, aim.new_zeros(1))) - position
    forward = forward / forward.norm()
    right = torch.linalg.cross(forward, position.new_tensor([0.0, 1.0, 0.0]))
    right = right / right.norm()
    up = torch.linalg.cross(right, forward)
    cos = math.cos(roll)
    sin = math.sin(roll)
    # Rows are the camera's right, up and forward in the world, so this matrix takes the world to the camera.
    axes = torch.stack((cos * right - sin * up, sin * right + cos * up, forward))
    # A point of the plane needs no z, so its third column is free for the translation: one 3×3 matrix is enough.
    to_world = position.new_tensor([[1.0, 0.0, -0.5], [0.0, -1.0, 0.5], [0.0, 0.0, 0.0]])
    offset = to_world - torch.outer(position, position.new_tensor([0.0, 0.0, 1.0]))
    # The second row is negative because y points down in a photo.
    lens = position.new_tensor([[focal, 0.0, 0.5], [0.0, -focal, 0.5], [0.0, 0.0, 1.0]])
    homography = lens @ axes @ offset
    # A homography has no scale of its own; dividing by the centre's depth makes w positive in front of the camera.
    depth_of_centre = homography[2] @ position.new_tensor([0.5, 0.5, 1.0])
    return Camera(homography / depth_of_centre, position)


def project(homography: Float[Tensor, "3 3"], points: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
    """Apply a homography to points. The inverse homography takes view points back to the texture.

    Args:
        homography: From the coordinates of `points` to other coordinates.
        points: Coordinates to transform, such as texture coordinates in [0, 1].

    Returns:
        The transformed coordinates, such as view coordinates in [0, 1].

    Source: Hartley and Zisserman, Multiple View Geometry (2nd ed.), 2.3.
    """
    moved = torch.cat((points, torch.ones_like(points[:, :1])), dim=1) @ homography.T
    return moved[:, :2] / moved[:, 2:]


def sample_cameras(generator: torch.Generator, views: int) -> list[Camera]:
    """Draw the cameras of one hand-held capture.

    All photos share one lens. The first is taken from nearly straight above (tilt up to 5°) and shows the whole tile.
    Each of the others is tilted by 20 to 40° towards its own side, from a distance at which the tile about fills the
    photo. Sides are a third of a circle apart for up to four views and evenly spaced for more, so that the first two
    tilted views never oppose each other: two opposite flashes would show slopes along one axis only. Photos are upright
    within 3°.

    Args:
        generator: Source of all randomness, on the CPU.
        views: Number of cameras, at least 1.

    Returns:
        The cameras, float32 on the CPU.
    """
    focal = uniform(generator, *_FOCAL)
    around = uniform(generator, 0.0, 2 * math.pi)
    step = _side_step(views)
    cameras = [_hand_held(generator, focal, around, _OVERHEAD_TILT, _OVERHEAD_FILL)]
    for side in range(views - 1):
        # A person walks around the tile about evenly: a quarter of a step to either side.
        azimuth = around + step * (side + uniform(generator, -0.25, 0.25))
        cameras.append(_hand_held(generator, focal, azimuth, _SIDE_TILT, _SIDE_FILL))
    return cameras


def nominal_cameras(views: int) -> list[Camera]:
    """Return the cameras of a usual capture, each parameter in the middle of the range of `sample_cameras`.

    The first is taken from straight above. The second is tilted by 30° towards +x, and the others by as much
    towards evenly spaced sides, counter-clockwise.

    Args:
        views: Number of cameras, at least 1.

    Returns:
        The cameras, float32 on the CPU.
    """
    focal = _middle(_FOCAL)
    tilt = _middle(_SIDE_TILT)
    fill = _middle(_SIDE_FILL)
    step = _side_step(views)
    overhead = _towards(0.0, 0.0, focal, _middle(_OVERHEAD_FILL), 0.0)
    return [overhead, *(_towards(tilt, side * step, focal, fill, 0.0) for side in range(views - 1))]


def _middle(bounds: tuple[float, float]) -> float:
    return sum(bounds) / 2


def _side_step(views: int) -> float:
    """Return the angle between the azimuths of two neighbouring tilted views."""
    # With two tilted views, half a circle would make them opposite; a third is the widest step that is drawn.
    return 2 * math.pi / max(views - 1, 3)


def _hand_held(
    generator: torch.Generator,
    focal: float,
    azimuth: float,
    tilts: tuple[float, float],
    fills: tuple[float, float],
) -> Camera:
    tilt = uniform(generator, *tilts)
    fill = uniform(generator, *fills)
    roll = uniform(generator, -_ROLL, _ROLL)
    return _towards(tilt, azimuth, focal, fill, roll)


def _towards(tilt: float, azimuth: float, focal: float, fill: float, roll: float) -> Camera:
    """Move the camera along a direction and aim it until the tile's bounding box is centred and its side is `fill`."""
    # In float64, so that the repeated inversions cost no digits of the float32 result.
    direction = torch.tensor(
        [math.sin(tilt) * math.cos(azimuth), math.sin(tilt) * math.sin(azimuth), math.cos(tilt)], dtype=torch.float64
    )
    corners = direction.new_tensor(_CORNERS)
    distance = focal / fill
    aim = direction.new_zeros(2)
    for _ in range(_FRAMING_STEPS):
        camera = look_at(direction * distance, aim, focal, roll)
        projected = project(camera.homography, corners)
        low = projected.amin(0)
        high = projected.amax(0)
        centre = project(torch.linalg.inv(camera.homography), ((low + high) / 2)[None])[0]
        aim = torch.stack((centre[0] - 0.5, 0.5 - centre[1]))
        # A picture's size is about inversely proportional to the distance; the next step corrects the rest.
        distance *= float((high - low).max()) / fill
    camera = look_at(direction * distance, aim, focal, roll)
    return Camera(camera.homography.float(), camera.position.float())
