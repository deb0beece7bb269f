"""Compares whole pictures: a first homography by search, its refinement, and a measure of agreement.

Maximises the enhanced correlation coefficient (Evangelidis and Psarakis, Parametric Image Alignment Using Enhanced
Correlation Coefficient Maximization, IEEE PAMI 30(10), 2008). Homographies go from the first photo to the other, both
in [0, 1]².
"""

import math

import cv2
import numpy as np

from neuropbr_core.data.registration.features import Grey, Matrix, Picture, square_to_photo, to_pixels

_REFINEMENT_SIDES = (256, 512, 1024)  # coarse to fine: a coarse picture has a wider basin of convergence
_SEARCH_SIDE = 128
_TILTS = (math.radians(22), math.radians(37))  # a moderate tilt and a strong one
_SIDES = 12  # azimuths of the search, every 30°
_DISTANCE = 1.4  # of the camera in the search, in sides of the square, which fills the photo at `NOMINAL_FOCAL`
_BLUR = 5  # width of the filter in pixels; a wider filter blurs the texture itself, a narrower one loses the way
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-5)  # 40 steps, or a gain below 1e-5
_AGREEMENT_SIDE = 512
_CELLS = 8  # along a side of the texture
_CELL_TOLERANCE = 2 / 512
"""Largest shift of a cell that still agrees, in sides of the texture."""
LEAST_OVERLAP = 0.6
"""Least share of the texture that a photo shows. A repeating pattern that is matched one period off shows less."""
_NEIGHBOURHOOD = 0.06
"""Distance within which a picture resembles itself, in sides; the window of `Picture.even` is of that width."""
_ALIKE = 0.6  # correlation at which a place is taken for another; unlike places of one material stay below 0.3
_FLAT = 0.05  # deviation of an even picture that shows nothing
_SAMPLING = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_FULLY = 0.99  # coverage of a pixel that counts as whole; interpolation rounds


def refine(first: Picture, other: Picture, start: Matrix) -> Matrix | None:
    """Improve a homography on the pictures' edges, from coarse to fine.

    Args:
        first: The first photo's square.
        other: Another photo.
        start: A homography that is right to a few hundredths of the texture's side.

    Returns:
        The homography, or None when the pictures do not correlate.
    """
    homography: Matrix | None = start
    # Sides beyond that of the picture are cut to it, and then occur once.
    sides = {min(side, first.shorter_side) for side in _REFINEMENT_SIDES}
    for side in sorted(sides):
        if homography is not None:
            homography = _climb(first.edges(side), other.edges(side), homography)
    return homography


def search(first: Picture, other: Picture) -> Matrix | None:
    """Try the ways in which a person may hold a phone, and return the homography that correlates best.

    This is for materials whose features all look alike or drown in noise; small pictures have less noise.

    Args:
        first: The first photo's square.
        other: Another photo.

    Returns:
        The homography, or None when none correlates.
    """
    here = first.even(_SEARCH_SIDE)
    there = other.even(_SEARCH_SIDE)
    height, width = there.shape
    from_square = square_to_photo(width, height)
    # The square as the phone sees it: from straight above, or tilted towards each side.
    guesses = [np.eye(3)]
    for tilt in _TILTS:
        for side in range(_SIDES):
            guesses.append(_tilted(tilt, 2 * math.pi * side / _SIDES))
    best = None
    best_correlation = -math.inf
    for guess in guesses:
        homography = _climb(here, there, from_square @ guess)
        if homography is None:
            continue
        correlation = _correlation(here, there, homography)
        if correlation > best_correlation:
            best = homography
            best_correlation = correlation
    return best


def agreement(first: Picture, other: Picture, homography: Matrix) -> float:
    """Measure how much of the texture the two photos show alike, at the same place.

    Each cell of an 8×8 grid is compared on its own, by phase correlation. A cell agrees when its best shift is at most
    1/256 of the texture's side. A cell without texture, or under a highlight, has no best shift and does not agree.
    Cells of unrelated pictures agree only by chance.

    Args:
        first: The first photo's square.
        other: Another photo.
        homography: From the first to the other, both in [0, 1]².

    Returns:
        Share of the cells that agree, in [0, 1]; 0 when the other photo shows less than 60 % of the texture.
    """
    side = min(_AGREEMENT_SIDE, first.shorter_side)
    here = first.edges(side)
    there = other.edges(side)
    moved, coverage = _overlay(here, there, homography)
    if (coverage >= _FULLY).mean() < LEAST_OVERLAP:
        return 0.0
    cell = side // _CELLS
    # The window fades a cell out towards its border, whose jump would otherwise correlate with itself.
    window = cv2.createHanningWindow((cell, cell), cv2.CV_32F)
    agreeing = 0
    for row, column in np.ndindex(_CELLS, _CELLS):
        part = np.s_[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        if np.min(coverage[part]) >= _FULLY:
            # Copies, because a cut-out of a picture is not contiguous in memory.
            (x, y), _ = cv2.phaseCorrelate(here[part].copy(), moved[part].copy(), window)
            agreeing += math.hypot(x, y) <= _CELL_TOLERANCE * side
    return agreeing / _CELLS**2


def overlap(first: Picture, other: Picture, homography: Matrix) -> float:
    """Measure how much of the texture the other photo shows.

    Args:
        first: The first photo's square.
        other: Another photo.
        homography: From the first to the other, both in [0, 1]².

    Returns:
        Share in [0, 1].
    """
    _, coverage = _overlay(first.edges(_SEARCH_SIDE), other.edges(_SEARCH_SIDE), homography)
    return float((coverage >= _FULLY).mean())


def repetition(picture: Picture) -> float | None:
    """Find the distance at which a picture looks like itself again.

    Its middle is compared with all places around it.

    Args:
        picture: The first photo's square.

    Returns:
        The distance in shorter sides; None when the picture does not repeat.
    """
    even = picture.even(2 * _SEARCH_SIDE)
    height, width = even.shape
    middle = even[height // 4 : height - height // 4, width // 4 : width - width // 4].copy()
    if float(middle.std()) < _FLAT:
        return None  # nothing to compare: OpenCV's coefficient would be noise
    likeness = cv2.matchTemplate(even, middle, cv2.TM_CCOEFF_NORMED)
    rows, columns = likeness.shape
    y, x = np.mgrid[:rows, :columns]
    distance = np.hypot(y - height // 4, x - width // 4) / min(height, width)
    # Near its own place every picture resembles itself.
    likeness[distance < _NEIGHBOURHOOD] = -1.0
    best = float(np.max(likeness))
    if best < _ALIKE:
        return None
    # A pattern repeats in many places; the nearest of those that are equally alike is the period.
    return float(distance[likeness >= 0.95 * best].min())


def _climb(here: Grey, there: Grey, start: Matrix) -> Matrix | None:
    """Maximise the correlation from a start; None when the climb leaves the pictures."""
    from_here = to_pixels(here)
    from_there = to_pixels(there)
    warp = from_there @ start @ np.linalg.inv(from_here)
    everywhere = np.full(there.shape, 255, np.uint8)
    try:
        _, climbed = cv2.findTransformECC(
            here, there, (warp / warp[2, 2]).astype(np.float32), cv2.MOTION_HOMOGRAPHY, _STEPS, everywhere, _BLUR
        )
    except cv2.error:  # "images may be uncorrelated or non-overlapped"
        return None
    homography: Matrix = np.linalg.inv(from_there) @ np.asarray(climbed, np.float64) @ from_here
    if not np.isfinite(homography).all() or homography[2, 2] == 0:
        return None
    scaled: Matrix = homography / homography[2, 2]
    return scaled


def _overlay(here: Grey, there: Grey, homography: Matrix) -> tuple[Grey, Grey]:
    """Warp the other picture onto the first, and return it with its coverage of each pixel, in [0, 1]."""
    warp = to_pixels(there) @ homography @ np.linalg.inv(to_pixels(here))
    height, width = here.shape
    moved = cv2.warpPerspective(there, warp, (width, height), flags=_SAMPLING)
    # A picture of ones, warped alike, is 1 where the other picture has pixels and 0 outside it.
    coverage = cv2.warpPerspective(np.ones_like(there), warp, (width, height), flags=_SAMPLING)
    return moved.astype(np.float32, copy=False), coverage.astype(np.float32, copy=False)


def _correlation(here: Grey, there: Grey, homography: Matrix) -> float:
    """Return the correlation coefficient where the pictures overlap; -1 when they overlap little."""
    moved, coverage = _overlay(here, there, homography)
    both = coverage >= _FULLY
    # A small overlap correlates well by chance.
    if both.mean() < LEAST_OVERLAP:
        return -1.0
    a = here[both] - here[both].mean()
    b = moved[both] - moved[both].mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-9))


def _tilted(tilt: float, azimuth: float) -> Matrix:
    """Return the view of a tilted square from `_DISTANCE` sides, scaled to fill the photo, and centred."""
    towards = np.array([math.cos(azimuth), math.sin(azimuth)])
    # The square is foreshortened along the direction of the tilt, and its far side gets a larger w.
    view = np.eye(3)
    view[:2, :2] -= (1 - math.cos(tilt)) * np.outer(towards, towards)
    view[2, :2] = -math.sin(tilt) / _DISTANCE * towards
    view = view @ np.array([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]])  # turned about its centre
    # A person moves the phone until the longer side of the tilted square fills the photo.
    corners = view @ np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    low = (corners[:2] / corners[2]).min(axis=1)
    high = (corners[:2] / corners[2]).max(axis=1)
    scale = 1 / (high - low).max()
    x, y = 0.5 - scale * (low + high) / 2
    centred: Matrix = np.array([[scale, 0.0, x], [0.0, scale, y], [0.0, 0.0, 1.0]]) @ view
    return centred
