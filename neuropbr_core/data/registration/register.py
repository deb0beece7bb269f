"""The photos of one material registered to the first, with a confidence for each, or a refusal that says why."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuropbr_core.data.images.fit import Stored
from neuropbr_core.data.layout.cameras_file import CameraRecord, record_camera
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
"""Share of the frame that must agree. Wrong homographies were seen to reach 0.06, right ones of materials that hardly
show features 0.3."""
_CLEAR = 0.5  # a start that leads to this needs no rival
_LEAST_SIDE = 128
_DIGITS_HOMOGRAPHY, _DIGITS_POSITION = 6, 4
_STEEPEST = math.radians(70)
_INSTEAD = "or give the cameras yourself in a cameras.json (`neuropbr infer --cameras FILE`)"


@dataclass(frozen=True)
class Registration:
    """Where the photos of one material were taken from.

    Attributes:
        cameras: One for each photo.
        confidence: For each photo, the share of the frame in which it and the first agree, in [0, 1]. For the first
            photo 1, or the share in which it agrees with the texture that was given; 0 where that could not be found
            in it, and its centred square is the frame all the same.
        focal: Focal length in shorter sides of a photo; the nominal one where the photos do not tell it.
    """

    cameras: tuple[CameraRecord, ...]
    confidence: tuple[float, ...]
    focal: float


class _Fit(NamedTuple):
    homography: Matrix | None
    confidence: float
    evidence: Start


def register_photos(photos: Sequence[Stored], names: Sequence[str], texture: Stored | None = None) -> Registration:
    """Register photos of one flat material to the first.

    The first photo is taken from straight above, at the focal length that all photos share. Its centred square is the
    texture frame, unless the texture is known.

    Args:
        photos: sRGB-encoded uint8 `(3, H, W)`, at least one, each of its own size.
        names: What messages call them.
        texture: The true albedo, stored `(3, S, S)`, where there is one: the first photo is registered to it, and so
            all cameras see the true maps where they are.

    Returns:
        A camera and a confidence for each photo.

    Raises:
        DataError: Photos cannot be registered; one line for each, with what to do.
    """
    _require_pixels(photos, names)
    first = Picture(centred_square(photos[0]))
    features = find_features(first)
    fits = [_fit(first, features, Picture(photo)) for photo in photos[1:]]
    refusals = [
        _refusal(name, names[0], fit, mirrored=_is_mirrored(first, features, photo))
        for name, photo, fit in zip(names[1:], photos[1:], fits, strict=True)
        if fit.homography is None
    ]
    if refusals:
        raise DataError("\n".join(refusals))
    frame, share = _texture_frame(photos[0], texture)
    from_texture = np.linalg.inv(square_to_photo(*_size(photos[0]))) @ frame
    others = [fit.homography @ from_texture for fit in fits if fit.homography is not None]
    homographies = [frame, *others]
    focal, poses = _recover_poses(homographies, photos)
    _require_likely(poses, names)
    cameras = tuple(_record(homography, pose) for homography, pose in zip(homographies, poses, strict=True))
    return Registration(cameras, (share, *(fit.confidence for fit in fits)), focal)


def _texture_frame(first: Stored, texture: Stored | None) -> tuple[Matrix, float]:
    """Homography from the texture to the first photo, and how far they agree."""
    square = square_to_photo(*_size(first))
    if texture is None:
        return square, 1.0
    if min(*_size(texture), *_size(first)) < _LEAST_SIDE:
        return square, 0.0
    known = Picture(texture)
    fit = _fit(known, find_features(known), Picture(first))
    if fit.homography is None:
        return (square, 0.0)
    return (fit.homography, fit.confidence)


def _fit(first: Picture, features: Features, other: Picture) -> _Fit:
    """Refine starts until one is clear, and keep the best."""
    best = _Fit(None, 0.0, Start(None, 0, 0))
    evidence = Start(None, 0, 0)
    for start in _starts(first, features, other):
        evidence = max(evidence, start, key=lambda tried: tried.agreeing)
        if start.homography is None:
            refined = None
        else:
            refined = refine(first, other, start.homography)
        if refined is not None and _shows_front(refined):
            share = agreement(first, other, refined)
            best = max(best, _Fit(refined, share, start), key=lambda fit: fit.confidence)
        if best.confidence >= _CLEAR:
            break
    if best.confidence >= LEAST_CONFIDENCE:
        accepted = best.homography
    else:
        accepted = None
    return _Fit(accepted, best.confidence, evidence)


def _starts(first: Picture, features: Features, other: Picture) -> Iterator[Start]:
    found = find_features(other)
    for near in (True, False):
        yield match_features(features, found, (first, other), near=near)
    yield Start(search(first, other), 0, 0)


def _shows_front(homography: Matrix) -> bool:
    """Whether the whole frame lies before the camera and is not mirrored."""
    corners = homography @ np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    depths = corners[2] * np.sign(corners[2, 0])
    return bool(depths.min() > 0 and np.linalg.det(homography) * np.sign(corners[2, 0]) > 0)


def _recover_poses(homographies: Sequence[Matrix], photos: Sequence[Stored]) -> tuple[float, list[Pose]]:
    planes = []
    for homography, photo in zip(homographies, photos, strict=True):
        planes.append(plane_homography(homography, *_size(photo)))
    focal = focal_length(planes) or NOMINAL_FOCAL
    return focal, [camera_pose(plane, focal) for plane in planes]


def _record(homography: Matrix, pose: Pose) -> CameraRecord:
    """The camera, with as many digits as photos can tell."""
    at_centre = homography / (homography[2] @ [0.5, 0.5, 1.0])
    return record_camera(at_centre.round(_DIGITS_HOMOGRAPHY), pose.position.round(_DIGITS_POSITION))


def _size(photo: Stored) -> tuple[int, int]:
    """Width and height."""
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
    if small and len(photos) > 1:
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
