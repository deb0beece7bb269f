"""Pinhole cameras with square pixels over the texture tile, placed as a person holds a phone."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.sampling import uniform


class Placement(NamedTuple):
    """Ranges from which the cameras of a capture are drawn.

    Attributes:
        focal: Focal length in sides of the photo, which is also about the distance in sides of the tile.
        overhead_tilt: Angle between the optical axis and the plane's normal of the first photo, in radians.
        side_tilt: The same of the other photos.
        overhead_fill: Share of the first photo's side that the tile takes.
        side_fill: The same of the other photos.
        roll: Largest turn of a photo about its optical axis, to either side, in radians.
    """

    focal: tuple[float, float]
    overhead_tilt: tuple[float, float]
    side_tilt: tuple[float, float]
    overhead_fill: tuple[float, float]
    side_fill: tuple[float, float]
    roll: float


HAND_HELD = Placement(
    # 49° to 31° across, which a square crop leaves of a phone's main lens.
    focal=(1.1, 1.8),
    overhead_tilt=(0.0, math.radians(5)),
    side_tilt=(math.radians(20), math.radians(40)),
    # Overhead photos show the whole tile; tilted ones may cut its corners.
    overhead_fill=(0.92, 0.99),
    side_fill=(0.95, 1.08),
    # Hands do not hold phones exactly upright.
    roll=math.radians(3),
)
"""A person who holds a phone over a tile of the size of a hand or two."""

FAR = Placement(
    # A tile cut out of a photo of a larger surface: published captures have cameras about 2.4 patch sides away.
    focal=(1.8, 2.8),
    overhead_tilt=(0.0, math.radians(10)),
    side_tilt=(math.radians(10), math.radians(50)),
    overhead_fill=(0.93, 1.0),
    side_fill=(0.9, 1.05),
    roll=math.radians(5),
)
"""Cameras of somebody else: further away, some nearly upright and some steeply tilted."""

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


def sample_cameras(generator: torch.Generator, views: int, placement: Placement = HAND_HELD) -> list[Camera]:
    """Draw the cameras of one hand-held capture.

    All photos share one lens. The first is taken from nearly straight above (by default, tilt up to 5°) and shows the
    whole tile. Each of the others is tilted (by 20 to 40°) towards its own side, from where the tile about fills the
    photo. Sides are a third of a circle apart for up to four views and evenly spaced for more, so that the
    first two tilted views never oppose each other: two opposite flashes would show slopes along one axis only. Photos
    are upright within 3°.

    Args:
        generator: Source of all randomness, on the CPU.
        views: Number of cameras, at least 1.
        placement: The ranges to draw from.

    Returns:
        The cameras, float32 on the CPU.
    """
    focal = uniform(generator, *placement.focal)
    around = uniform(generator, 0.0, 2 * math.pi)
    step = _side_step(views)
    overhead = (placement.overhead_tilt, placement.overhead_fill, placement.roll)
    tilted = (placement.side_tilt, placement.side_fill, placement.roll)
    cameras = [_hand_held(generator, focal, around, *overhead)]
    for side in range(views - 1):
        # A person walks around the tile about evenly: a quarter of a step to either side.
        azimuth = around + step * (side + uniform(generator, -0.25, 0.25))
        cameras.append(_hand_held(generator, focal, azimuth, *tilted))
    return cameras


def nominal_cameras(views: int) -> list[Camera]:
    """Return the cameras of a usual capture, each parameter in the middle of its range in `HAND_HELD`.

    The first is taken from straight above. The second is tilted by 30° towards +x, and the others by as much
    towards evenly spaced sides, counter-clockwise.

    Args:
        views: Number of cameras, at least 1.

    Returns:
        The cameras, float32 on the CPU.
    """
    focal = _middle(HAND_HELD.focal)
    tilt = _middle(HAND_HELD.side_tilt)
    fill = _middle(HAND_HELD.side_fill)
    step = _side_step(views)
    overhead = _towards(0.0, 0.0, focal, _middle(HAND_HELD.overhead_fill), 0.0)
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
    largest_roll: float,
) -> Camera:
    tilt = uniform(generator, *tilts)
    fill = uniform(generator, *fills)
    roll = uniform(generator, -largest_roll, largest_roll)
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
