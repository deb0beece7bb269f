"""Whole pictures laid over each other: a start by search, refinement, and how much of the frame agrees.

Maximises the enhanced correlation coefficient (Evangelidis and Psarakis, Parametric Image Alignment Using Enhanced
Correlation Coefficient Maximization, IEEE PAMI 30(10), 2008). Homographies go from the first photo to the other, both
in [0, 1]².
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np

from neuropbr_core.data.registration.pictures import Grey, Matrix, Picture, square_to_photo, to_pixels

_REFINEMENT_SIDES = (256, 512, 1024)
_SEARCH_SIDE = 128
_TILTS = (math.radians(22), math.radians(37))
_SIDES = 12
_DISTANCE = 1.4
_BLUR = 5  # width of the filter in pixels; wider ones blur what is compared, narrower ones lose the way
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-5)
_AGREEMENT_SIDE = 512
_CELLS = 8  # along a side of the frame
_CELL_TOLERANCE = 2 / 512
"""Shift of a cell that still agrees, in sides of the frame."""
_LEAST_OVERLAP = 0.6
"""Share of the frame that a photo shows at least; a repeating pattern that slipped shows less."""
_SAMPLING = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_FULLY = 0.99


def refine(first: Picture, other: Picture, start: Matrix) -> Matrix | None:
    """Improve a homography on the pictures' edges, from coarse to fine.

    Args:
        first: The first photo's square.
        other: Another photo.
        start: A homography that is right to a few hundredths of the frame.

    Returns:
        The homography, or None when the pictures do not correlate.
    """
    homography: Matrix | None = start
    for side in sorted({min(side, first.shorter_side) for side in _REFINEMENT_SIDES}):
        if homography is not None:
            homography = _climb(first.edges(side), other.edges(side), homography)
    return homography


def search(first: Picture, other: Picture) -> Matrix | None:
    """Try the ways in which a person may hold a phone, and return what correlates best.

    For materials whose features look all alike, or are lost in noise: small pictures have less noise.
    """
    here = first.even(_SEARCH_SIDE)
    there = other.even(_SEARCH_SIDE)
    height, width = there.shape
    from_square = square_to_photo(width, height)
    found = []
    for guess in _guesses():
        found.append(_climb(here, there, from_square @ guess))
    scored = []
    for homography in found:
        if homography is not None:
            scored.append((_correlation(here, there, homography), homography))
    if scored:
        return max(scored, key=lambda pair: pair[0])[1]
    return None


def agreement(first: Picture, other: Picture, homography: Matrix) -> float:
    """Measure how much of the frame the two photos show alike, at the same place.

    Each cell of an 8×8 grid is compared on its own, by phase correlation. It agrees when its best shift is at most
    1/256 of the frame. A cell without texture, or under a highlight, has no best shift and so does not agree; of
    unrelated pictures, cells agree by chance only.

    Returns:
        Share of the frame's cells that agree, in [0, 1]; 0 when the other photo shows less than 60 % of the frame.
    """
    side = min(_AGREEMENT_SIDE, first.shorter_side)
    here = first.edges(side)
    there = other.edges(side)
    moved, seen = _overlay(here, there, homography)
    if (seen >= _FULLY).mean() < _LEAST_OVERLAP:
        return 0.0
    cell = side // _CELLS
    window = cv2.createHanningWindow((cell, cell), cv2.CV_32F)
    agreeing = 0
    for row, column in np.ndindex(_CELLS, _CELLS):
        part = np.s_[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        if seen[part].min() >= _FULLY:
            (x, y), _ = cv2.phaseCorrelate(here[part].copy(), moved[part].copy(), window)
            agreeing += math.hypot(x, y) <= _CELL_TOLERANCE * side
    return agreeing / _CELLS**2


def _climb(here: Grey, there: Grey, start: Matrix) -> Matrix | None:
    from_here = to_pixels(here)
    from_there = to_pixels(there)
    warp = from_there @ start @ np.linalg.inv(from_here)
    everywhere = np.full(there.shape, 255, np.uint8)
    try:
        _, found = cv2.findTransformECC(
            here, there, (warp / warp[2, 2]).astype(np.float32), cv2.MOTION_HOMOGRAPHY, _STEPS, everywhere, _BLUR
        )
    except cv2.error:  # "images may be uncorrelated or non-overlapped": the climb left the pictures
        return None
    homography: Matrix = np.linalg.inv(from_there) @ np.asarray(found, np.float64) @ from_here
    if not np.isfinite(homography).all() or homography[2, 2] == 0:
        return None
    scaled: Matrix = homography / homography[2, 2]
    return scaled


def _overlay(here: Grey, there: Grey, homography: Matrix) -> tuple[Grey, Grey]:
    """The other picture in the first one's frame, and how much of each pixel it shows."""
    warp = to_pixels(there) @ homography @ np.linalg.inv(to_pixels(here))
    height, width = here.shape
    moved, seen = (
        cv2.warpPerspective(picture, warp, (width, height), flags=_SAMPLING) for picture in (there, np.ones_like(there))
    )
    return moved.astype(np.float32, copy=False), seen.astype(np.float32, copy=False)


def _correlation(here: Grey, there: Grey, homography: Matrix) -> float:
    """Correlation coefficient where both are seen; -1 where that is little."""
    moved, seen = _overlay(here, there, homography)
    both = seen >= _FULLY
    if both.mean() < _LEAST_OVERLAP:
        return -1.0
    a = here[both] - here[both].mean()
    b = moved[both] - moved[both].mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-9))


def _guesses() -> Iterator[Matrix]:
    """How the square may look: unchanged, or tilted towards each side and framed again."""
    yield np.eye(3)
    for tilt in _TILTS:
        for side in range(_SIDES):
            yield _tilted(tilt, 2 * math.pi * side / _SIDES)


def _tilted(tilt: float, azimuth: float) -> Matrix:
    """The square seen from `_DISTANCE` sides, tilted, scaled until its longer side fills the photo, and centred."""
    towards = np.array([math.cos(azimuth), math.sin(azimuth)])
    seen = np.eye(3)
    seen[:2, :2] -= (1 - math.cos(tilt)) * np.outer(towards, towards)
    seen[2, :2] = -math.sin(tilt) / _DISTANCE * towards
    seen = seen @ np.array([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]])
    corners = seen @ np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    low = (corners[:2] / corners[2]).min(axis=1)
    high = (corners[:2] / corners[2]).max(axis=1)
    scale = 1 / (high - low).max()
    x, y = 0.5 - scale * (low + high) / 2
    framed: Matrix = np.array([[scale, 0.0, x], [0.0, scale, y], [0.0, 0.0, 1.0]]) @ seen
    return framed
