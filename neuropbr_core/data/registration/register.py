"""Registers the photos of one material to the first, with a confidence for each, or refuses them with a reason."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuropbr_core.data.images import Stored
from neuropbr_core.data.layout.paths import CameraRecord, record_camera
from neuropbr_core.data.registration.dense import agreement, refine, search
from neuropbr_core.data.registration.features import (
    LEAST_AGREEING,
    Features,
    Start,
    find_features,
    match_features,
)
from neuropbr_core.data.registration.pictures import Matrix, Picture, centred_square, square_to_photo
from neuropbr_core.errors import DataError
from neuropbr_core.materials.pose import NOMINAL_FOCAL, Pose, camera_pose, focal_length, plane_homography

LEAST_CONFIDENCE = 0.2
"""Share of the texture that must agree. In trials, wrong homographies reached 0.06 at most, and right homographies of
materials with few features 0.3 at least."""
_CLEAR = 0.5  # confidence at which no other start is tried
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
    """

    cameras: tuple[CameraRecord, ...]
    confidence: tuple[float, ...]
    focal: float


class _Fit(NamedTuple):
    """The best homography of a photo, None when it is refused; its confidence; and the start with most matches."""

    homography: Matrix | None
    confidence: float
    evidence: Start


def register_photos(photos: Sequence[Stored], names: Sequence[str], texture: Stored | None = None) -> Registration:
    """Register photos of one flat material to the first.

    All photos share one focal length. The first photo is taken from straight above; its centred square is the texture,
    unless `texture` is given.

    Args:
        photos: sRGB-encoded uint8 `(3, H, W)`, at least one, each of its own size.
        names: Names of the photos for messages.
        texture: The true albedo in stored form `(3, S, S)`, if it is known. The first photo is registered to it, so
            that views and true maps agree.

    Returns:
        A camera and a confidence for each photo.

    Raises:
        DataError: Photos cannot be registered. The message has one line for each, with what to do.
    """
    if len(photos) > 1:  # one photo alone is not matched, so it may be small
        _require_pixels(photos, names)
    first = Picture(centred_square(photos[0]))
    features = find_features(first)
    first_to_other = []
    shares = []
    refusals = []
    for name, photo in zip(names[1:], photos[1:], strict=True):
        fit = _fit(first, features, Picture(photo))
        if fit.homography is None:
            refusals.append(_refusal(name, names[0], fit, mirrored=_is_mirrored(first, features, photo)))
        else:
            first_to_other.append(fit.homography)
            shares.append(fit.confidence)
    if refusals:
        raise DataError("\n".join(refusals))
    texture_to_photo, share = _texture_to_first(photos[0], texture)
    texture_to_square = np.linalg.inv(square_to_photo(*_size(photos[0]))) @ texture_to_photo
    homographies = [texture_to_photo]
    for homography in first_to_other:
        homographies.append(homography @ texture_to_square)
    planes = []
    for homography, photo in zip(homographies, photos, strict=True):
        planes.append(plane_homography(homography, *_size(photo)))
    # Photos from straight above alone fit any focal length; the nominal one is then used.
    focal = focal_length(planes) or NOMINAL_FOCAL
    poses = [camera_pose(plane, focal) for plane in planes]
    _require_likely(poses, names)
    cameras = []
    for homography, pose in zip(homographies, poses, strict=True):
        # Scaled so that w is 1 at the centre, and rounded to as many digits as photos can determine.
        scaled = homography / (homography[2] @ [0.5, 0.5, 1.0])
        cameras.append(record_camera(scaled.round(_DIGITS_HOMOGRAPHY), pose.position.round(_DIGITS_POSITION)))
    return Registration(tuple(cameras), (share, *shares), focal)


def _texture_to_first(first: Stored, texture: Stored | None) -> tuple[Matrix, float]:
    """Return the homography from the texture to the first photo, and the share of the texture that agrees."""
    square = square_to_photo(*_size(first))
    if texture is None:
        return square, 1.0
    if min(*_size(texture), *_size(first)) < _LEAST_SIDE:
        return square, 0.0
    known = Picture(texture)
    fit = _fit(known, find_features(known), Picture(first))
    if fit.homography is None:
        return square, 0.0
    return fit.homography, fit.confidence


def _fit(first: Picture, features: Features, other: Picture) -> _Fit:
    """Refine one start after another until a result is clear, and keep the best."""
    best = None
    confidence = 0.0
    evidence = Start(None, 0, 0)
    for start in _starts(first, features, other):
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
        if confidence >= _CLEAR:
            break
    if confidence < LEAST_CONFIDENCE:
        best = None
    return _Fit(best, confidence, evidence)


def _starts(first: Picture, features: Features, other: Picture) -> Iterator[Start]:
    """Yield homographies to start from, the cheapest and most reliable first; the search takes seconds."""
    features_of_other = find_features(other)
    for near in (True, False):
        yield match_features(features, features_of_other, (first, other), near=near)
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


def _require_pixels(photos: Sequence[Stored], names: Sequence[str]) -> None:
    small = []
    for name, photo in zip(names, photos, strict=True):
        if min(_size(photo)) < _LEAST_SIDE:
            width, height = _size(photo)
            small.append(
                f"{name}: is {width}×{height} pixels; registering photos needs {_LEAST_SIDE} along the shorter side. "
                f"Use a larger photo, {_INSTEAD}"
            )
    if small:
        raise DataError("\n".join(small))


def _require_likely(poses: Sequence[Pose], names: Sequence[str]) -> None:
    steep = []
    for name, pose in zip(names, poses, strict=True):
        if pose.tilt > _STEEPEST:
            steep.append(
                f"{name}: the match with {names[0]} means a camera tilted by {math.degrees(pose.tilt):.0f}°, at most "
                f"{math.degrees(_STEEPEST):.0f}° is believed. Retake it from higher above, {_INSTEAD}"
            )
    if steep:
        raise DataError("\n".join(steep))


def _is_mirrored(first: Picture, features: Features, photo: Stored) -> bool:
    # Front cameras save mirrored photos, which no camera position explains. Flipped back, such a photo matches.
    mirrored = Picture(photo[:, :, ::-1])
    start = match_features(features, find_features(mirrored), (first, mirrored), near=False)
    return start.homography is not None and _shows_front(start.homography)


def _refusal(name: str, first: str, fit: _Fit, *, mirrored: bool) -> str:
    if mirrored:
        return f"{name}: is mirrored: flipped left to right it matches {first}. Flip it back, {_INSTEAD}"
    matches = fit.evidence.matches
    agreeing = fit.evidence.agreeing
    return (
        f"{name}: cannot be registered to {first}: {agreeing} of {matches} feature matches agree ({LEAST_AGREEING} "
        f"needed), and {fit.confidence:.0%} of the frame looks alike ({LEAST_CONFIDENCE:.0%} needed). Retake it sharp, "
        f"of the same patch as {first}, with less glare; a material that shows no features, or the wrong photo, cannot "
        f"be registered: remove it, {_INSTEAD}"
    )
