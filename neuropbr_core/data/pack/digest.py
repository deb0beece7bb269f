"""Digests of the content of files and datasets."""

import hashlib
import os
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from neuropbr_core.files import write_bytes
from neuropbr_core.parallel import cores
from neuropbr_core.reading import open_bytes
from neuropbr_core.samples import Sample

_TAIL = 4096  # bytes; a PNG ends with the checksum of its last pixels, so another picture has another tail
_SETTLED = 2.0  # seconds after which a changed file gets another time stamp on every file system; FAT counts in twos


def fingerprint_files(files: Iterable[Path]) -> str:
    """Digest the sizes and last 4 KiB of files, in their order.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        size = path.stat().st_size
        with open_bytes(path) as file:
            file.seek(max(0, size - _TAIL), os.SEEK_SET)
            tail = file.read()
        digest.update(size.to_bytes(8, "big"))
        digest.update(hashlib.blake2b(tail, digest_size=16).digest())
    return digest.hexdigest()


def fingerprint_samples(samples: Sequence[Sample[Any]], digests: Mapping[Hashable, str]) -> str:
    """Digest the names, materials, cameras and images of samples. The places of the images do not matter.

    Args:
        samples: From a `SampleSource`.
        digests: Digest of the content behind each of their keys.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    # Sorted by id, so that the order in which a source lists its samples does not matter either.
    for sample in sorted(samples, key=lambda sample: sample.id):
        views = [digests[key] for key in sample.views]
        maps = {}
        for name, key in sorted(sample.maps.items()):
            maps[name] = digests[key]
        digest.update(msgspec.json.encode([sample.id, sample.material, sample.cameras, views, maps]))
    return digest.hexdigest()


class FileDigests:
    """Digests of whole files. They are remembered for as long as a file does not change.

    A file counts as unchanged while its size, inode and both its time stamps are the same. The second time stamp is
    that of the last change of any kind, which programs that copy or unpack cannot set back. A file that changed a
    moment ago is not remembered, because it might change again within the same tick of the clock.
    """

    def __init__(self, memo: Path | None = None) -> None:
        """Start with the digests of the file `memo`; with none when it is missing or damaged."""
        self._memo = memo
        self._known: dict[str, tuple[list[int], str]] = {}
        try:
            if memo is not None:
                self._known = msgspec.json.decode(memo.read_bytes(), type=dict[str, tuple[list[int], str]])
        except (OSError, msgspec.DecodeError):
            return  # the memo only saves time

    def of(self, paths: Sequence[Path]) -> list[str]:
        """Digest files, and remember the digests if the memo can be written.

        Returns:
            For each file, 32 hexadecimal digits.

        Raises:
            OSError: A file cannot be read.
        """
        # Threads suffice: hashing and reading release the interpreter's lock.
        with ThreadPoolExecutor(cores()) as pool:
            results = list(pool.map(self._digest, paths))
        fresh = {}
        digests = []
        for name, entry, settled in results:
            digests.append(entry[1])
            if settled and self._known.get(name) != entry:
                fresh[name] = entry
        if fresh:
            self._known |= fresh
            if self._memo is not None:
                with suppress(OSError):  # the memo only saves time
                    write_bytes(self._memo, msgspec.json.encode(self._known))
        return digests

    def _digest(self, path: Path) -> tuple[str, tuple[list[int], str], bool]:
        """Return the name of a file in the memo, its entry, and whether to remember it."""
        stamp, changed = _stamp(path)
        if self._memo is None:
            name = str(path)
        else:
            # Relative to the memo, so that a dataset may move to another place together with its memo.
            name = os.path.relpath(path, self._memo.parent)
        entry = self._known.get(name)
        if entry is not None and entry[0] == stamp:
            return name, entry, True
        settled = time.time() - changed > _SETTLED
        with open_bytes(path) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        # The stamp is read again: a file that changed while it was read has a digest of no content at all.
        return name, (stamp, digest), settled and _stamp(path)[0] == stamp


def _stamp(path: Path) -> tuple[list[int], float]:
    """Return the properties of a file that change with its content, and the time of its last change."""
    status = path.stat()
    stamp = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
    return stamp, max(status.st_mtime, status.st_ctime)
