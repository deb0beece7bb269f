"""A first homography between two photos from points that both show."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from neuropbr_core.data.registration.pictures import Matrix, Picture, to_pixels

_COUNT = 4000
_CONTRAST = 0.02
"""SIFT's contrast threshold, half its default: most materials are fainter than everyday scenes."""
_SIGMAS_TO_GREYS = 40.0
"""Levels of an 8-bit picture for one local deviation."""
_RATIO = 0.8
"""Source: D. Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 60(2), 2004, section 7.1."""
_NEAR = 0.35
"""Farthest that a point is looked for from where the first photo shows it, in shorter sides."""
_TOLERANCE = 3.0
"""Pixels of the working picture by which agreeing matches may be off."""
_MODEL_POINTS = 4
LEAST_AGREEING = 10
"""Matches that must agree: chance was seen to give up to 7."""


class Features(NamedTuple):
    """Points of a photo and what surrounds them.

    Attributes:
        points: `(N, 2)`, pixels of the working picture.
        places: `(N, 2)`, from the photo's centre, in shorter sides.
        descriptors: `(N, 128)`, of unit length.
    """

    points: npt.NDArray[np.float32]
    places: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]


class Start(NamedTuple):
    """A homography from matched points.

    Attributes:
        homography: First photo to the other, both in [0, 1]²; None when too few matches agree.
        matches: Points matched.
        agreeing: Those of them that one homography explains.
    """

    homography: Matrix | None
    matches: int
    agreeing: int


def find_features(picture: Picture) -> Features:
    """Find a photo's features.

    Descriptors are compared by the Hellinger distance.

    Source: R. Arandjelović and A. Zisserman, Three things everyone should know to improve object retrieval, CVPR 2012.
    """
    even = picture.even()
    levels = np.clip(even * _SIGMAS_TO_GREYS + 128, 0, 255).astype(np.uint8)
    keypoints, found = cv2.SIFT.create(_COUNT, contrastThreshold=_CONTRAST).detectAndCompute(levels, None)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)
    if found is None:
        descriptors = np.zeros((0, 128), np.float32)
    else:
        descriptors = np.asarray(found, np.float32)
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    height, width = levels.shape
    places = (points - np.array([width / 2, height / 2], np.float32)) / np.float32(min(height, width))
    return Features(points, places, roots)


def match_features(first: Features, other: Features, pictures: tuple[Picture, Picture], *, near: bool) -> Start:
    """Match two photos' features and fit a homography to what agrees.

    Args:
        first: Features of the first photo.
        other: Features of another.
        pictures: The two photos.
        near: Look for a point around where the first photo shows it. Patterns that repeat then do not match their
            neighbours; photos that were turned need False.

    Returns:
        The fit.

    Source: D. Barath et al., MAGSAC++, a fast, reliable and accurate robust estimator, CVPR 2020.
    """
    pairs = _pairs(first, other, near=near)
    if len(pairs) < _MODEL_POINTS:
        return Start(None, len(pairs), 0)
    here = first.points[pairs[:, 0]]
    there = other.points[pairs[:, 1]]
    fit, mask = cv2.findHomography(here, there, cv2.USAC_MAGSAC, _TOLERANCE, maxIters=10_000, confidence=0.9999)
    # OpenCV's types do not tell that both are None when no homography fits.
    agreeing = int(np.count_nonzero(mask)) if mask is not None else 0
    if fit is None or agreeing < LEAST_AGREEING:
        return Start(None, len(pairs), agreeing)
    from_first, from_other = (to_pixels(picture.grey) for picture in pictures)
    homography: Matrix = np.linalg.inv(from_other) @ np.asarray(fit, np.float64) @ from_first
    return Start(homography, len(pairs), agreeing)


def _pairs(first: Features, other: Features, *, near: bool) -> npt.NDArray[np.intp]:
    """Indices `(N, 2)` of features that choose each other, clearly."""
    if min(len(first.points), len(other.points)) < 2:
        return np.zeros((0, 2), np.intp)
    if near:
        allowed = _near(first, other)
    else:
        allowed = None
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    forth = matcher.knnMatch(first.descriptors, other.descriptors, k=2, mask=allowed)
    back = matcher.match(other.descriptors, first.descriptors, mask=None if allowed is None else allowed.T.copy())
    chosen = {}
    for match in back:
        chosen[match.queryIdx] = match.trainIdx
    pairs = []
    for best, *rest in (matches for matches in forth if matches):
        if chosen.get(best.trainIdx) == best.queryIdx and all(
            best.distance < _RATIO * next_.distance for next_ in rest
        ):
            pairs.append((best.queryIdx, best.trainIdx))
    return np.array(pairs, np.intp).reshape(-1, 2)


def _near(first: Features, other: Features) -> npt.NDArray[np.uint8]:
    """Which features may match, `(N, M)`."""
    (x1, y1) = first.places.T
    (x2, y2) = other.places.T
    squared = (x1[:, None] - x2[None, :]) ** 2 + (y1[:, None] - y2[None, :]) ** 2
    near: npt.NDArray[np.uint8] = (squared <= _NEAR * _NEAR).astype(np.uint8)
    return near
