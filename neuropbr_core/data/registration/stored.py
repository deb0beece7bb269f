"""Cameras of a dataset's samples, estimated once and kept beside the photos as `input/cameras.estimated.json`.

The first photo is registered to the true albedo, so that cameras see the true maps where they are, and the others to
the first photo. An entry counts for exactly the files that it was made from. Refusals are kept too: what could not be
registered need not be tried again.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from neuropbr_core.data.layout.cameras_file import CameraRecord
from neuropbr_core.data.layout.scan import Sample, raise_problems
from neuropbr_core.data.pack.digest import fingerprint_files
from neuropbr_core.data.registration.folders import PhotoSet, register_sets
from neuropbr_core.data.registration.register import Registration
from neuropbr_core.files import write_json
from neuropbr_core.maps import ALBEDO

ESTIMATED_NAME = "cameras.estimated.json"
_METHOD = 1  # raised when the same photos would give other cameras
_SAVE_EVERY = 64  # samples between two writes of the file
_log = logging.getLogger(__name__)


class Estimate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What registering a sample's photos gave.

    Attributes:
        photos: Fingerprint of the photos, and of the albedo that they were registered to.
        cameras: One for each view; none when they were refused.
        confidence: One for each view.
        problem: Why they were refused.
    """

    photos: str
    cameras: tuple[CameraRecord, ...] = ()
    confidence: tuple[float, ...] = ()
    problem: str = ""


class _File(msgspec.Struct):
    method: int
    samples: dict[str, Estimate]


def estimate_cameras(samples: Sequence[Sample], file: Path) -> list[Sample]:
    """Give samples the cameras that their photos tell.

    Args:
        samples: Samples whose views are files.
        file: Where estimates are kept; it may be missing, and need not be writable.

    Returns:
        The samples with cameras.

    Raises:
        DataError: Samples cannot be registered; all of them at once.
    """
    known = read_estimates(file)
    prints = {sample.id: fingerprint_files([*sample.views, sample.maps[ALBEDO.name]]) for sample in samples}
    stale = [sample for sample in samples if _is_stale(known.get(sample.id), prints[sample.id])]
    results = register_sets([PhotoSet(sample.views, sample.maps[ALBEDO.name]) for sample in stale])
    try:
        for count, (sample, result) in enumerate(zip(stale, results, strict=True), start=1):
            known[sample.id] = _estimate(prints[sample.id], result)
            if count % _SAVE_EVERY == 0:
                _keep(file, known)
    finally:
        if stale:
            _keep(file, known)
    raise_problems([line for sample in samples for line in known[sample.id].problem.splitlines()])
    if loose := [sample.id for sample in samples if not known[sample.id].confidence[0]]:
        _log.warning("the first photo of %s could not be registered to the true albedo; it is taken as it is", loose)
    return [replace(sample, cameras=known[sample.id].cameras) for sample in samples]


def read_estimates(file: Path) -> dict[str, Estimate]:
    """Read what was estimated before, by sample; nothing when the file is missing, damaged, or of another method."""
    try:
        stored = msgspec.json.decode(file.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError):
        return {}
    if stored.method == _METHOD:
        return stored.samples
    return {}


def _is_stale(estimate: Estimate | None, photos: str) -> bool:
    return estimate is None or estimate.photos != photos


def _estimate(photos: str, result: Registration | str) -> Estimate:
    if isinstance(result, str):
        return Estimate(photos, problem=result)
    return Estimate(photos, result.cameras, tuple(round(share, 3) for share in result.confidence))


def _keep(file: Path, known: Mapping[str, Estimate]) -> None:
    try:
        write_json(file, _File(_METHOD, dict(sorted(known.items()))))
    except OSError as error:
        _log.warning("%s: could not be written (%s); the photos will be registered again next time", file, error)
