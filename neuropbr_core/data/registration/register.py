"""Registers the photos of one material to the first, with a confidence for each, or refuses them with a reason.

The focal length that photos share and the pose of each camera follow from plane homographies. The camera is a pinhole
with square pixels and its principal point at the centre of the photo. Image coordinates are *centred* in this module:
their origin is the middle of the photo, x points to the right, y down, and the unit is its shorter side. Focal lengths
have the same unit, so they do not change when a photo is resized or squeezed into a square. A *plane homography* takes
points (x, y, 1) of the world's plane z = 0 to centred image coordinates times a depth.

Source: Z. Zhang, A Flexible New Technique for Camera Calibration, IEEE PAMI 22(11), 2000.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuropbr_core.data.images import Stored
from neuropbr_core.data.layout.paths import CameraRecord, record_camera
from neuropbr_core.data.registration.dense import LEAST_OVERLAP, agreement, overlap, refine, repetition, search
from neuropbr_core.data.registration.features import (
    LEAST_AGREEING,
    Matrix,
    Picture,
    Start,
    centred_square,
    match_features,
    square_to_photo,
)
from neuropbr_core.errors import DataError

Array = npt.NDArray[np.float64]

NOMINAL_FOCAL = 1.4
"""Focal length assumed when photos do not determine it, in shorter sides: about the middle of the range of
`cameras.sample_cameras`, above that of a phone's whole 4:3 photo (1.0)."""
FOCAL_RANGE = (0.5, 4.0)
"""Estimates outside this range are rejected; the cameras of phones are well inside."""
# Least sum of squares that determines a focal length: one view tilted by about 15° gives this much, sin⁴ of the tilt.
_LEAST_SPREAD = 0.005
# From world (x, y, 1) to texture (u, v, 1): u = x + 0.5, v = 0.5 - y.
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
    """Return the matrix from view coordinates in [0, 1]² to centred coordinates.

    Args:
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.

    Returns:
        `(3, 3)`, affine.
    """
    shorter = min(width, height)
    x = width / shorter
    y = height / shorter
    return np.array([[x, 0.0, -x / 2], [0.0, y, -y / 2], [0.0, 0.0, 1.0]])


def plane_homography(homography: Array, width: int, height: int) -> Array:
    """Express a camera's homography between the world's plane and centred image coordinates.

    Args:
        homography: `(3, 3)`, texture (u, v, 1) to view (x, y, w) in [0, 1]², of either sign.
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.

    Returns:
        `(3, 3)`, world (x, y, 1) to centred image coordinates, scaled so that the depth of the tile's centre is 1.
    """
    plane = centring(width, height) @ homography @ _TEXTURE_FROM_WORLD
    scaled: Array = plane / plane[2, 2]
    return scaled


def focal_length(planes: Sequence[Array]) -> float | None:
    """Estimate the focal length that all photos share.

    The first two columns of a plane homography are images of perpendicular world axes of equal length. Each photo
    therefore gives two linear equations in 1 / f², which are solved together by least squares.

    Args:
        planes: One plane homography for each photo.

    Returns:
        The focal length in shorter sides. None when the photos do not determine it, as photos from straight above do
        not, or when the estimate is outside `FOCAL_RANGE`.

    Source: Zhang 2000, section 2.3, equations 3 and 4, with the principal point and the aspect ratio known.
    """
    equations = []
    for plane in planes:
        x1, y1, w1 = plane[:, 0]
        x2, y2, w2 = plane[:, 1]
        perpendicular = (x1 * x2 + y1 * y2, w1 * w2)
        equal = (x1 * x1 + y1 * y1 - x2 * x2 - y2 * y2, w1 * w1 - w2 * w2)
        # Divided by the axes' lengths, photos in which the tile is large count no more than others.
        equations.append(np.array([perpendicular, equal]).T / (np.hypot(x1, y1) * np.hypot(x2, y2)))
    # Each equation is slope / f² + offset = 0.
    slopes, offsets = np.concatenate(equations, axis=1)
    spread = float(slopes @ slopes)
    if spread < _LEAST_SPREAD:
        return None
    inverse_square = -float(slopes @ offsets) / spread
    low, high = FOCAL_RANGE
    # Compared as 1 / f², because noise can make it negative.
    if not high**-2 <= inverse_square <= low**-2:
        return None
    return float(inverse_square**-0.5)


def camera_pose(plane: Array, focal: float) -> Pose:
    """Recover the pose of a camera of known focal length.

    Args:
        plane: Plane homography.
        focal: Focal length in shorter sides, > 0.

    Returns:
        The pose. Its rotation is the one nearest to the matrix that a noisy homography gives.

    Source: Zhang 2000, section 3.1 and appendix C.
    """
    # With the lens divided out, the columns are the rotation's first two and the translation, times one factor: the
    # rotation's columns have length 1, so the geometric mean of both lengths is that factor.
    columns = np.diag([1 / focal, 1 / focal, 1.0]) @ plane
    columns = columns / np.sqrt(np.linalg.norm(columns[:, 0]) * np.linalg.norm(columns[:, 1]))
    right, up, translation = columns.T
    # Without its singular values, a matrix becomes the nearest orthogonal one.
    left, _, rest = np.linalg.svd(np.column_stack((right, up, np.cross(right, up))))
    rotation: Array = left @ rest
    return Pose(rotation, -rotation.T @ translation)


LEAST_CONFIDENCE = 0.2
"""Share of the texture that must agree. In trials, wrong homographies reached 0.06 at most, and right homographies of
materials with few features 0.3 at least."""
_CLEAR = 0.5  # confidence at which no other start is tried
_FEW_SIDE = 512  # of pictures in which features are looked for first
_LEAST_SIDE = 128  # pixels; the search compares pictures of this side
_DIGITS_HOMOGRAPHY = 6  # a millionth of a photo's side is far below a pixel
_DIGITS_POSITION = 4
_STEEPEST = math.radians(70)  # nobody photographs a material at a steeper angle; a wrong match often looks like one
_INSTEAD = "or give the cameras yourself in a cameras.json (`neuropbr infer --cameras FILE`)"


@dataclass(frozen=True)
class Registration:
    """The cameras of one material's photos.

    Attributes:
        cameras: One for each photo.
        confidence: For each photo, the share of the texture in which it and the first agree, in [0, 1]. For the first
            photo it is 1, or the share in which it agrees with the texture that was given; 0 when the texture cannot
            be matched, in which case the centred square counts as the texture.
        focal: Focal length in shorter sides of a photo; the nominal one when the photos do not determine it.
        refusals: Why photos were left out, by their index; `cameras` and `confidence` are those of the others, in
            order. Empty unless photos may be left out.
    """

    cameras: tuple[CameraRecord, ...]
    confidence: tuple[float, ...]
    focal: float
    refusals: dict[int, str] = field(default_factory=dict)


class _Fit(NamedTuple):
    """What was found out about a photo.

    Attributes:
        homography: The best homography; None when the photo is refused.
        confidence: Share of the texture that agrees.
        evidence: The start with most matches.
        overlap: Share of the texture that the photo shows by the best homography, whether it was good enough or not.
    """

    homography: Matrix | None
    confidence: float
    evidence: Start
    overlap: float


def register_photos(
    photos: Sequence[Stored], names: Sequence[str], texture: Stored | None = None, *, partial: bool = False
) -> Registration:
    """Register photos of one flat material to the first.

    All photos share one focal length. The first photo is taken from straight above; its centred square is the texture,
    unless `texture` is given.

    Args:
        photos: sRGB-encoded uint8 `(3, H, W)`, at least one, each of its own size.
        names: Names of the photos for messages.
        texture: The true albedo in stored form `(3, S, S)`, if it is known. The first photo is registered to it, so
            that views and true maps agree.
        partial: Whether photos that cannot be registered are left out, as long as two photos are left.

    Returns:
        A camera and a confidence for each photo.

    Raises:
        DataError: Photos cannot be registered. The message has one line for each, with what to do.
    """
    refusals: dict[int, str] = {}
    if len(photos) > 1:  # one photo alone is not matched, so it may be small
        refusals = _too_small(photos, names)
        _settle(refusals, partial=partial and 0 not in refusals, left=len(photos) - len(refusals))
    first = Picture(centred_square(photos[0]))
    first_to_other: dict[int, Matrix] = {}
    shares: dict[int, float] = {}
    for index in range(1, len(photos)):
        if index in refusals:
            continue
        fit = _fit(first, Picture(photos[index]))
        if fit.homography is None:
            mirrored = _is_mirrored(first, photos[index])
            # Both have to repeat: a wrong photo is no fault of the pattern.
            period = None
            if repetition(Picture(centred_square(photos[index]))) is not None:
                period = repetition(first)
            refusals[index] = _refusal(names[index], names[0], fit, period, mirrored=mirrored)
        else:
            first_to_other[index] = fit.homography
            shares[index] = fit.confidence
    _settle(refusals, partial=partial, left=1 + len(shares))
    texture_to_photo, shares[0] = _texture_to_first(photos[0], texture)
    texture_to_square = np.linalg.inv(square_to_photo(*_size(photos[0]))) @ texture_to_photo
    homographies = {0: texture_to_photo}
    for index, homography in first_to_other.items():
        homographies[index] = homography @ texture_to_square
    poses, focal = _poses(homographies, photos)
    while steep := _too_steep(poses, names):
        _settle(steep, partial=partial, left=len(poses) - len(steep))
        refusals |= steep
        # The others once more, because a wrong match has spoilt the focal length that all share.
        for index in steep:
            del homographies[index]
        poses, focal = _poses(homographies, photos)
    cameras = []
    for index, pose in poses.items():
        homography = homographies[index]
        # Scaled so that w is 1 at the centre, and rounded to as many digits as photos can determine.
        scaled = homography / (homography[2] @ [0.5, 0.5, 1.0])
        cameras.append(record_camera(scaled.round(_DIGITS_HOMOGRAPHY), pose.position.round(_DIGITS_POSITION)))
    confidence = tuple(shares[index] for index in poses)
    return Registration(tuple(cameras), confidence, focal, dict(sorted(refusals.items())))


def _poses(homographies: Mapping[int, Matrix], photos: Sequence[Stored]) -> tuple[dict[int, Pose], float]:
    """Return the pose of each camera by the photo's index, and the focal length that they share."""
    planes = {}
    for index, homography in homographies.items():
        planes[index] = plane_homography(homography, *_size(photos[index]))
    # Photos from straight above alone fit any focal length; the nominal one is then used.
    focal = focal_length(list(planes.values())) or NOMINAL_FOCAL
    return {index: camera_pose(plane, focal) for index, plane in planes.items()}, focal


def _settle(refusals: Mapping[int, str], *, partial: bool, left: int) -> None:
    """Raise refusals, unless photos may be left out and two are left: one photo shows no material."""
    if refusals and not (partial and left >= 2):
        raise DataError("\n".join(refusals.values()))


def _texture_to_first(first: Stored, texture: Stored | None) -> tuple[Matrix, float]:
    """Return the homography from the texture to the first photo, and the share of the texture that agrees."""
    square = square_to_photo(*_size(first))
    if texture is None:
        return square, 1.0
    if min(*_size(texture), *_size(first)) < _LEAST_SIDE:
        return square, 0.0
    fit = _fit(Picture(texture), Picture(first))
    if fit.homography is None:
        return square, 0.0
    return fit.homography, fit.confidence


def _fit(first: Picture, other: Picture) -> _Fit:
    """Refine one start after another until a result is clear, and keep the best."""
    best = None
    confidence = 0.0
    shown = 0.0
    evidence = Start(None, 0, 0)
    for start in _starts(first, other):
        # A refusal reports the start with most matches, whatever became of it.
        if start.agreeing > evidence.agreeing:
            evidence = start
        if start.homography is None:
            continue
        refined = refine(first, other, start.homography)
        if refined is None or not _shows_front(refined):
            continue
        share = agreement(first, other, refined)
        if share > confidence:
            best = refined
            confidence = share
        # Without agreement, the homography with most matches tells best what the photo shows.
        if share == confidence and (share > 0 or start is evidence):
            shown = overlap(first, other, refined)
        if confidence >= _CLEAR:
            break
    if confidence < LEAST_CONFIDENCE:
        best = None
    return _Fit(best, confidence, evidence, shown)


def _starts(first: Picture, other: Picture) -> Iterator[Start]:
    """Yield homographies to start from, the cheapest and most reliable first; the search takes seconds."""
    # Small pictures of most photos show enough. Features take time in proportion to the area, matches to its square.
    yield match_features(first.features(_FEW_SIDE), other.features(_FEW_SIDE), (first, other), near=True)
    for near in (True, False):
        yield match_features(first.features(), other.features(), (first, other), near=near)
    yield Start(search(first, other), 0, 0)


def _shows_front(homography: Matrix) -> bool:
    """Whether the whole texture is in front of the camera and is not mirrored."""
    # A homography is defined up to its sign, so the first corner decides which side counts as the front.
    corners = homography @ np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    depths = corners[2] * np.sign(corners[2, 0])
    return bool(depths.min() > 0 and np.linalg.det(homography) * np.sign(corners[2, 0]) > 0)


def _size(photo: Stored) -> tuple[int, int]:
    """Return width and height."""
    return photo.shape[2], photo.shape[1]


def _too_small(photos: Sequence[Stored], names: Sequence[str]) -> dict[int, str]:
    """Return a refusal for each photo that is too small to compare."""
    small = {}
    for index, (name, photo) in enumerate(zip(names, photos, strict=True)):
        if min(_size(photo)) < _LEAST_SIDE:
            width, height = _size(photo)
            small[index] = (
                f"{name}: is {width}×{height} pixels; registering photos needs {_LEAST_SIDE} along the shorter side. "
                f"Use a larger photo, {_INSTEAD}"
            )
    return small


def _too_steep(poses: Mapping[int, Pose], names: Sequence[str]) -> dict[int, str]:
    """Return a refusal for each photo whose camera is tilted further than anybody tilts it."""
    steep = {}
    for index, pose in poses.items():
        if pose.tilt > _STEEPEST:
            steep[index] = (
                f"{names[index]}: the match with {names[0]} means a camera tilted by "
                f"{math.degrees(pose.tilt):.0f}°, at most {math.degrees(_STEEPEST):.0f}° is believed. Retake it from "
                f"higher above, {_INSTEAD}"
            )
    return steep


def _is_mirrored(first: Picture, photo: Stored) -> bool:
    # Front cameras save mirrored photos, which no camera position explains. Flipped back, such a photo matches.
    mirrored = Picture(photo[:, :, ::-1])
    start = match_features(first.features(), mirrored.features(), (first, mirrored), near=False)
    return start.homography is not None and _shows_front(start.homography)


def _refusal(name: str, first: str, fit: _Fit, period: float | None, *, mirrored: bool) -> str:
    """Say which test a photo failed, what was measured, and what to do."""
    if mirrored:
        return f"{name}: is mirrored: flipped left to right it matches {first}. Flip it back, {_INSTEAD}"
    matches = fit.evidence.matches
    agreeing = fit.evidence.agreeing
    if agreeing >= LEAST_AGREEING and fit.overlap < LEAST_OVERLAP:
        failed = f"no overlap: it shows {fit.overlap:.0%} of the patch in {first} ({LEAST_OVERLAP:.0%} needed)"
        advice = f"Retake it with the whole patch of {first} in it"
    elif period is not None:
        failed = f"a repeating pattern: it looks alike every {period:.0%} of the patch, so that places are mistaken"
        advice = "Put a few small things beside the patch that all photos show, or move the phone less between photos"
    elif agreeing < LEAST_AGREEING:
        failed = "too few matches"
        advice = f"Retake it sharp, of the same patch as {first}, with less glare"
    else:
        failed = "too little looks alike"
        advice = "Retake it with less glare, of a surface that is flat"
    return (
        f"{name}: cannot be registered to {first}: {failed}; {agreeing} of {matches} feature matches agree "
        f"({LEAST_AGREEING} needed), and {fit.confidence:.0%} of the frame looks alike "
        f"({LEAST_CONFIDENCE:.0%} needed). "
        f"{advice}; a material that shows no features, or the wrong photo, cannot be registered: remove it, {_INSTEAD}"
    )
