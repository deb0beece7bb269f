"""Short names for the content of files and datasets."""

import hashlib
import os
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from neuropbr_core.files import write_bytes
from neuropbr_core.machine import cores
from neuropbr_core.samples import Sample

_TAIL = 4096  # a PNG ends with the checksum of all its pixels
_SETTLED = 2.0  # seconds after which a file that changes gets another time stamp on every file system


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


def fingerprint_samples(samples: Sequence[Sample[Any]], digests: Mapping[Hashable, str]) -> str:
    """Digest what samples are called, show and were taken with; where their images lie does not matter.

    Args:
        samples: From a `SampleSource`.
        digests: Name of the content behind each of their keys.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for sample in sorted(samples, key=lambda sample: sample.id):
        maps = {name: digests[key] for name, key in sorted(sample.maps.items())}
        views = [digests[key] for key in sample.views]
        digest.update(msgspec.json.encode([sample.id, sample.material, sample.cameras, views, maps]))
    return digest.hexdigest()


class FileDigests:
    """Digests of whole files, remembered for as long as a file is not touched.

    A file counts as untouched while its size, inode and both its time stamps are the same; the second one, of the last
    change of any kind, cannot be set back by programs that copy or unpack. A file that changed a moment ago is not
    remembered: it might change again within the same tick of the clock.
    """

    def __init__(self, memo: Path | None = None) -> None:
        """Start with what `memo` remembers; without one, or with a damaged one, with nothing."""
        self._memo = memo
        self._known: dict[str, tuple[list[int], str]] = {}
        try:
            if memo is not None:
                self._known = msgspec.json.decode(memo.read_bytes(), type=dict[str, tuple[list[int], str]])
        except (OSError, msgspec.DecodeError):
            return

    def of(self, paths: Sequence[Path]) -> list[str]:
        """Digest files, 32 hexadecimal digits each, and remember them where the memo can be written.

        Raises:
            OSError: A file cannot be read.
        """
        with ThreadPoolExecutor(cores()) as pool:
            found = list(pool.map(self._digest, paths))
        fresh = {name: entry for name, entry, settled in found if settled}
        if any(self._known.get(name) != entry for name, entry in fresh.items()):
            self._known |= fresh
            self._save()
        return [entry[1] for _, entry, _ in found]

    def _digest(self, path: Path) -> tuple[str, tuple[list[int], str], bool]:
        """The name of a file in the memo, its entry, and whether to remember it."""
        stamp, changed = _stamp(path)
        if self._memo is None:
            name = str(path)
        else:
            name = os.path.relpath(path, self._memo.parent)
        entry = self._known.get(name)
        if entry is not None and entry[0] == stamp:
            return name, entry, True
        settled = time.time() - changed > _SETTLED
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        return name, (stamp, digest), settled and _stamp(path)[0] == stamp

    def _save(self) -> None:
        if self._memo is None:
            return
        try:
            write_bytes(self._memo, msgspec.json.encode(self._known))
        except OSError:
            return  # a memo only saves time


def _stamp(path: Path) -> tuple[list[int], float]:
    """What changes when a file does, and when that was."""
    found = path.stat()
    stamp = [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
    return stamp, max(found.st_mtime, found.st_ctime)
