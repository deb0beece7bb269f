"""Windows, flips and quarter-turns of the texture, done exactly on stored pixels.

A placement says which part of the texture a visit sees and how it is turned. It acts on stored maps by indexing alone,
and on views through the matrix from crop coordinates to texture coordinates that `materials.alignment`
warps with. Turning a normal map also turns its vectors, which for stored 8-bit values is exact too: -x is 255 - x.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from neuropbr_core.maps import NORMAL, MapSpec

Stored = npt.NDArray[np.uint8]
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


def place_map(stored: Stored, spec: MapSpec, placement: Placement, scale: int = 1, out: Stored | None = None) -> Stored:
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
