"""The crop that a visit shows: its window in the maps, the part of each photo behind it, and small errors of capture.

A placement says which part of the texture a visit sees and how it is turned. It acts on stored maps by indexing alone,
and on views through the matrix from crop coordinates to texture coordinates that `materials.alignment`
warps with. Turning a normal map also turns its vectors, which for stored 8-bit values is exact too: -x is 255 - x.

The crop appears in a photo as a quadrilateral; only its bounding box need be read and sent to the device. The
homography is adjusted to the box, so that warping it gives what warping the whole photo would.

Errors of exposure, white balance and alignment, such as real captures have, are drawn as a few numbers. Pixels are
changed on the device (`apply_gains`), and alignment is changed in the homographies that the device warps with.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.maps import NORMAL, MapSpec
from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.recipe.sections import Jitter

if TYPE_CHECKING:
    from neuropbr_core.data.images import Stored

Logits = npt.NDArray[np.float16]
"""`(logit_channels, H, W)` of one map."""

P = TypeVar("P", bound=np.generic)


class Placement(NamedTuple):
    """A square window of the texture, turned and perhaps mirrored.

    Attributes:
        x: Left edge in texture pixels at the network's input scale.
        y: Upper edge.
        side: Side of the window.
        turns: Quarter-turns counter-clockwise, 0 to 3, applied to the window's picture.
        mirror: Whether the turned picture is then flipped left to right.
    """

    x: int
    y: int
    side: int
    turns: int = 0
    mirror: bool = False


def whole(image_size: int) -> Placement:
    """The placement that changes nothing."""
    return Placement(0, 0, image_size)


def random_placement(
    rng: np.random.Generator, image_size: int, crop_size: int | None = None, *, turn: bool = False
) -> Placement:
    """Draw a placement.

    Args:
        rng: Source of the draw.
        image_size: Side of the texture frame, in pixels.
        crop_size: Side of the window, at most `image_size`; None takes the whole frame.
        turn: Whether to draw one of the eight flips and quarter-turns too.

    Returns:
        A window on whole pixels, uniform over all positions.
    """
    side = crop_size or image_size
    x, y = rng.integers(0, image_size - side + 1, size=2)
    # The position is drawn first, so that turning changes nothing in where windows are.
    symmetry = 0
    if turn:
        symmetry = int(rng.integers(8))
    return Placement(int(x), int(y), side, symmetry % 4, symmetry >= 4)


def crop_matrix(placement: Placement, image_size: int) -> npt.NDArray[np.float32]:
    """Matrix of a placement: crop (u, v, 1) to texture (u, v, 1), both in [0, 1] with v down."""
    scale = placement.side / image_size
    window = np.array([[scale, 0, placement.x / image_size], [0, scale, placement.y / image_size], [0, 0, 1]])
    # Exact in integers: turned about the centre (½, ½), which the last column brings back into [0, 1].
    turn = np.array([[0, -1, 1], [1, 0, 0], [0, 0, 1]])
    mirror = np.array([[-1, 0, 1], [0, 1, 0], [0, 0, 1]])
    symmetry = np.linalg.matrix_power(turn, placement.turns) @ np.linalg.matrix_power(mirror, int(placement.mirror))
    matrix: npt.NDArray[np.float32] = (window @ symmetry).astype(np.float32)
    return matrix


_STRIP = 16
"""Columns that are turned at a time: what is read for them stays in the processor's cache (3× over all at once)."""


def place_image(
    stored: npt.NDArray[P], placement: Placement, scale: int = 1, out: npt.NDArray[P] | None = None
) -> npt.NDArray[P]:
    """Cut and turn an image that lies in the texture frame.

    Args:
        stored: `(…, H, W)`, the whole frame.
        placement: Which part, and how it is turned.
        scale: Pixels of `stored` for one pixel of the placement.
        out: Array to write into; None makes one.

    Returns:
        `out`, of side `placement.side * scale`.
    """
    x = placement.x * scale
    y = placement.y * scale
    side = placement.side * scale
    placed = np.rot90(stored[..., y : y + side, x : x + side], placement.turns, axes=(-2, -1))
    if placement.mirror:
        placed = placed[..., ::-1]
    target = out
    if target is None:
        target = np.empty_like(placed, order="C")
    # A quarter-turn reads columns of the stored image, so it goes in strips; rows are copied at once.
    width = side
    if placement.turns % 2:
        width = _STRIP
    for start in range(0, side, width):
        target[..., start : start + width] = placed[..., start : start + width]
    return target


def place_map(
    stored: "Stored", spec: MapSpec, placement: Placement, scale: int = 1, out: "Stored | None" = None
) -> "Stored":
    """Cut and turn a stored map; the vectors of a normal map turn with it.

    Args:
        stored: `(C, H, W)`, the whole map.
        spec: Which map it is.
        placement: Which part, and how it is turned.
        scale: Pixels of the map for one pixel of the placement.
        out: Array to write into; None makes one.

    Returns:
        `out`, `(C, side, side)`.
    """
    placed = place_image(stored, placement, scale, out)
    if spec is NORMAL:
        _turn_vectors(placed, placement, lambda component: np.subtract(255, component, out=component))
    return placed


def place_logits(window: Logits, spec: MapSpec, placement: Placement, out: Logits) -> None:
    """Turn the logits of a map as `place_map` turns the map; a normal's slopes turn with it.

    Args:
        window: `(logit_channels, side, side)`, the placement's window already cut out.
        spec: Which map it is.
        placement: How it is turned.
        out: Where to write, of the same shape.
    """
    place_image(window, placement._replace(x=0, y=0, side=window.shape[-1]), out=out)
    if spec is NORMAL:
        _turn_vectors(out, placement, lambda component: np.negative(component, out=component))


def _turn_vectors(vectors: npt.NDArray[Any], placement: Placement, negate: Callable[[npt.NDArray[Any]], Any]) -> None:
    """Turn tangent-space vectors (x right, y up) as their picture was turned; `negate` works in place."""
    x, y = vectors[:2]
    if placement.turns % 2:  # a quarter-turn counter-clockwise takes (x, y) to (-y, x)
        x[:], y[:] = y.copy(), x.copy()
    # Which of x and y change sign for each number of quarter-turns, after the exchange above.
    flips = {1: (True, False), 2: (True, True), 3: (False, True)}.get(placement.turns, (False, False))
    # A mirror left to right changes the sign of x once more.
    for component, flipped in ((x, flips[0] != placement.mirror), (y, flips[1])):
        if flipped:
            negate(component)


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


_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


class Jittered(NamedTuple):
    """The errors of one visit.

    Attributes:
        gains: Factor of each view's linear red, green and blue, float32 `(V, 3)`; None when colours stay.
        shakes: View to shaken view, both in [0, 1]², float64 `(V, 3, 3)`, to be multiplied with homographies from the
            left; None when alignment stays.
    """

    gains: npt.NDArray[np.float32] | None
    shakes: npt.NDArray[np.float64] | None


def draw_jitter(rng: np.random.Generator, jitter: Jitter, views: int, image_size: int) -> Jittered:
    """Draw the errors of one visit.

    A view's exposure changes by up to `jitter.exposure` stops, then each of its channels by up to the share
    `jitter.color`, both evenly in stops. The corners of each view but the first move by up to `jitter.alignment`
    pixels along each axis; the first view is the one that others are registered to.

    Args:
        rng: Source of the draw; what is off changes nothing in the draw of what is on.
        jitter: How much.
        views: Number of views.
        image_size: Side of the frame in the pixels that `jitter.alignment` counts.

    Returns:
        The errors.
    """
    # All are drawn, in this order, also when some are off: switching one on changes nothing in the others' draws.
    exposure = rng.uniform(-1, 1, (views, 1))
    channels = rng.uniform(-1, 1, (views, 3))
    corners = rng.uniform(-1, 1, (views, 4, 2))
    gains = None
    if jitter.exposure or jitter.color:
        stops = exposure * jitter.exposure + channels * np.log2(1 + jitter.color)
        gains = np.exp2(stops).astype(np.float32)
    shakes = None
    if jitter.alignment:
        corners[0] = 0
        moved = _CORNERS + corners * (jitter.alignment / image_size)
        matrices = []
        for targets in moved:
            # Four pairs of points give eight equations for eight unknowns; the ninth element is set to 1.
            # Source: Hartley and Zisserman, Multiple View Geometry (2nd ed.), 4.1, the inhomogeneous solution.
            rows: list[list[float]] = []
            values: list[float] = []
            for (x, y), (u, v) in zip(_CORNERS, targets, strict=True):
                rows.append([x, y, 1, 0, 0, 0, -x * u, -y * u])
                rows.append([0, 0, 0, x, y, 1, -x * v, -y * v])
                values += [u, v]
            matrices.append(np.append(np.linalg.solve(rows, values), 1.0).reshape(3, 3))
        shakes = np.stack(matrices)
    return Jittered(gains, shakes)


def stacked_gains(jitters: Sequence[Jittered]) -> Tensor | None:
    """The gains of several visits of one recipe, float32 `(B, V, 3)`; None when colours stay."""
    gains = []
    for jitter in jitters:
        if jitter.gains is None:
            return None
        gains.append(jitter.gains)
    return torch.from_numpy(np.stack(gains))


def apply_gains(views: Float[Tensor, "B V 3 H W"], gains: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3 H W"]:
    """Change the exposure and white balance of sRGB-encoded views in linear light.

    Args:
        views: In [0, 1].
        gains: Factors of linear light, > 0.

    Returns:
        Views in [0, 1]. What exceeds white is clipped as a camera clips it; what was clipped before stays flat.
    """
    return linear_to_srgb((srgb_to_linear(views) * gains[..., None, None]).clamp(max=1))
