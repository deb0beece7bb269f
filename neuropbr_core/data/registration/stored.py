"""Keeps the estimated cameras of a dataset's samples beside the photos, as `input/cameras.estimated.json`.

The first photo is registered to the true albedo, and the others to the first photo. Views and true maps then agree. An
entry is valid for exactly the files that it was made from. Refusals are kept too, so that photos that could not be
registered are not tried again.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.data.layout.paths import CameraRecord
from neuropbr_core.data.layout.scan import Sample
from neuropbr_core.data.pack.digest import fingerprint_files
from neuropbr_core.data.registration.folders import PhotosOfSample, register_sets
from neuropbr_core.data.registration.register import Registration
from neuropbr_core.files import write_json
from neuropbr_core.maps import ALBEDO
from neuropbr_core.reading import DocumentError, parse_json, read_bytes

ESTIMATED_NAME = "cameras.estimated.json"
_METHOD = 3  # raise it when the same photos would give other cameras
_SAVE_EVERY = 64  # samples between two writes of the file: an interruption costs the work on this many at most
_log = logging.getLogger(__name__)


class Estimate(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of registering a sample's photos.

    Attributes:
        photos: Fingerprint of the photos, and of the albedo that they were registered to.
        cameras: One for each view; none when the photos were refused.
        confidence: One for each view.
        problem: Why the photos were refused.
    """

    photos: str
    cameras: tuple[CameraRecord, ...] = ()
    confidence: tuple[float, ...] = ()
    problem: str = ""


class _File(msgspec.Struct):
    method: int
    samples: dict[str, Estimate]


class Estimated(NamedTuple):
    """The outcome of registering the photos of several samples.

    Attributes:
        aligned: The samples that could be registered, with cameras, in their order.
        refused: Why others could not, by the sample's id, with a line for each photo.
    """

    aligned: list[Sample]
    refused: dict[str, str]


def estimate_cameras(samples: Sequence[Sample], file: Path) -> list[Sample]:
    """Give samples the cameras that their photos show.

    Args:
        samples: Samples whose views are files.
        file: File of the estimates. It may be missing, and need not be writable.

    Returns:
        The samples with cameras.

    Raises:
        DataError: Samples cannot be registered. The message lists all of them.
    """
    estimated = try_cameras(samples, file)
    problems = []
    for reason in estimated.refused.values():
        problems += reason.splitlines()
    raise_problems(problems)
    return estimated.aligned


def try_cameras(samples: Sequence[Sample], file: Path) -> Estimated:
    """Give samples the cameras that their photos show, as far as their photos can be registered.

    Args:
        samples: As for `estimate_cameras`.
        file: As for `estimate_cameras`.
    """
    known = read_estimates(file)
    fingerprints = {}
    stale = []
    photo_sets = []
    for sample in samples:
        albedo = sample.maps[ALBEDO.name]
        fingerprints[sample.id] = fingerprint_files([*sample.views, albedo])
        estimate = known.get(sample.id)
        if estimate is None or estimate.photos != fingerprints[sample.id]:
            stale.append(sample)
            photo_sets.append(PhotosOfSample(sample.views, albedo))
    try:
        results = register_sets(photo_sets)
        for count, (sample, result) in enumerate(zip(stale, results, strict=True), start=1):
            photos = fingerprints[sample.id]
            if isinstance(result, Registration):
                confidence = tuple(round(share, 3) for share in result.confidence)
                known[sample.id] = Estimate(photos, result.cameras, confidence)
            else:
                known[sample.id] = Estimate(photos, problem=result)
            if count % _SAVE_EVERY == 0:
                _keep(file, known)
    finally:
        # After Ctrl-C too, because registering photos takes long.
        if stale:
            _keep(file, known)
    refused = {}
    unregistered = []
    aligned = []
    for sample in samples:
        estimate = known[sample.id]
        if estimate.problem:
            refused[sample.id] = estimate.problem
            continue
        if not estimate.confidence[0]:
            unregistered.append(sample.id)
        aligned.append(replace(sample, cameras=estimate.cameras))
    if unregistered:
        _log.warning(
            "the first photo of %s could not be registered to the true albedo; its centred square is taken for the "
            "texture",
            unregistered,
        )
    return Estimated(aligned, refused)


def read_estimates(file: Path) -> dict[str, Estimate]:
    """Read earlier estimates by sample; none when the file is missing, damaged, or of another method."""
    try:
        stored = parse_json(read_bytes(file), _File)
    except (OSError, DocumentError):
        return {}
    if stored.method == _METHOD:
        return stored.samples
    return {}


def _keep(file: Path, known: Mapping[str, Estimate]) -> None:
    # A dataset may be on a read-only disk; estimates are then made again by the next run.
    try:
        write_json(file, _File(_METHOD, dict(sorted(known.items()))))
    except OSError as error:
        _log.warning("%s: could not be written (%s); the photos will be registered again next time", file, error)
