"""A short name for the content of a dataset, for provenance; cheap enough for every run."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from neuropbr_core.data.layout import Sample

_TAIL = 4096  # a PNG ends with the checksum of all its pixels


def fingerprint_files(files: Iterable[Path]) -> str:
    """Digest the sizes and last 4 KiB of files, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - _TAIL), os.SEEK_SET)
            tail = file.read()
        digest.update(size.to_bytes(8, "big"))
        digest.update(hashlib.blake2b(tail, digest_size=16).digest())
    return digest.hexdigest()


def fingerprint_samples(samples: Sequence[Sample]) -> str:
    """Digest what samples are called, show and were taken with; where their folder lies does not matter.

    Args:
        samples: From `layout.find_samples`.

    Returns:
        32 hexadecimal digits.
    """
    ordered = sorted(samples, key=lambda sample: sample.id)
    maps = dict.fromkeys(path for sample in ordered for path in sample.maps.values())
    views = [path for sample in ordered for path in sample.views]
    names = [[sample.id, sample.material, sample.cameras] for sample in ordered]
    digest = hashlib.blake2b(msgspec.json.encode(names), digest_size=16)
    digest.update(fingerprint_files([*views, *maps]).encode())
    return digest.hexdigest()
