"""Packing: every image decoded once, in parallel, into shards that appear whole or not at all."""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neuropbr_core.data.layout.scan import raise_problems
from neuropbr_core.data.pack.format import SUFFIX, ImageId, footer, packed_images, shards
from neuropbr_core.errors import DataError
from neuropbr_core.machine import cores
from neuropbr_core.reporting import reporter, track

Stored = npt.NDArray[np.uint8]
Read = Callable[[], Stored]

SHARD_BYTES = 1 << 30
"""Pixels in a shard, at most (one image at least): what a crash can cost."""

_LOCK_NAME = "lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class PackReport:
    """What packing did.

    Attributes:
        packed: Images decoded and written.
        kept: Images that were there.
        nbytes: Bytes of pixels written.
        seconds: Time it took.
    """

    packed: int
    kept: int
    nbytes: int
    seconds: float


def write_pack(
    folder: Path,
    wanted: Mapping[ImageId, Read],
    *,
    threads: int | None = None,
) -> PackReport:
    """Add the images that a pack lacks.

    After Ctrl-C, and after an error, what was decoded so far is kept; the next call does the rest.

    Args:
        folder: The pack; created when missing.
        wanted: Every image that it must have, with what decodes it. Neighbours end up side by side.
        threads: Images decoded at a time; None takes one a core.

    Returns:
        What was done.

    Raises:
        DataError: Images cannot be decoded (all of them at once; the others are packed), there is not enough room, or
            the folder cannot be written.
    """
    start = time.monotonic()
    problems: list[str] = []
    with _explained(folder), _alone(folder):
        missing = missing_images(folder, wanted)
        _require_room(folder, missing)
        jobs = [(image, wanted[image]) for image in missing]
        decoded = track(_decoded(jobs, threads or cores(), problems), len(jobs), "packing images")
        written = _write(folder, (pair for pair in decoded if pair is not None))
    raise_problems(problems)
    nbytes = sum(image.nbytes for image in written)
    return PackReport(len(written), len(wanted) - len(missing), nbytes, time.monotonic() - start)


def missing_images(folder: Path, wanted: Iterable[ImageId]) -> list[ImageId]:
    """The images that a pack lacks, in their order."""
    present = packed_images(folder)
    return [image for image in wanted if image not in present]


def prune_pack(folder: Path, digests: Collection[str]) -> int:
    """Remove the shards of which no image is made from any of these contents.

    Args:
        folder: The pack.
        digests: Names of the contents that are in use.

    Returns:
        Bytes that were freed.

    Raises:
        DataError: The folder cannot be written.
    """
    used = set(digests)
    if not folder.is_dir():
        return 0
    with _explained(folder), _alone(folder):
        idle = []
        for shard in shards(folder):
            if not any(image.digest in used for image in shard.images):
                idle.append(shard.path)
        freed = sum(path.stat().st_size for path in idle)
        for path in idle:
            path.unlink()
    return freed


class _OpenShard:
    """A shard that is being written, under a name that nobody reads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f".{os.getpid()}{SUFFIX}"
        self._file = self._path.open("wb")
        self.images: list[ImageId] = []
        self.length = 0

    def add(self, image: ImageId, pixels: Stored) -> None:
        """Write an image's pixels."""
        self._file.write(np.ascontiguousarray(pixels).data)
        self._file.write(bytes(image.stride - image.nbytes))
        self.images.append(image)
        self.length += image.stride

    def finish(self) -> None:
        """Give it its name, once all of it is on the disk; half an image at its end is cut off."""
        with self._file:
            self._file.seek(self.length)
            self._file.truncate()
            self._file.write(footer(self.images))
            self._file.flush()
            os.fsync(self._file.fileno())
        content = hashlib.blake2b(repr(self.images).encode(), digest_size=16).hexdigest()
        self._path.replace(self._folder / f"{content}{SUFFIX}")
        _sync_folder(self._folder)

    def discard(self) -> None:
        """Remove it."""
        self._path.unlink(missing_ok=True)
        with self._file:
            os.ftruncate(self._file.fileno(), 0)  # what is still buffered may not fit on the disk


def _write(folder: Path, decoded: Iterable[tuple[ImageId, Stored]]) -> list[ImageId]:
    """Write images into shards; returns those written."""
    written: list[ImageId] = []
    shard: _OpenShard | None = None
    try:
        for image, pixels in decoded:
            if shard is not None and shard.length + image.stride > SHARD_BYTES:
                shard.finish()
                shard = None
            shard = shard or _OpenShard(folder)
            shard.add(image, pixels)
            written.append(image)
    except OSError:
        if shard is not None:
            shard.discard()
        raise
    except BaseException:
        if shard is not None:
            shard.finish()
        raise
    if shard is not None:
        shard.finish()
    return written


def _decoded(
    jobs: Sequence[tuple[ImageId, Read]], threads: int, problems: list[str]
) -> Iterator[tuple[ImageId, Stored] | None]:
    """Decode images in order, a few ahead; None for one that cannot be, with the reason in `problems`."""
    waiting: deque[tuple[ImageId, Future[Stored]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for position in range(len(jobs) + threads):
            if position < len(jobs):
                image, read = jobs[position]
                waiting.append((image, pool.submit(read)))
            if position >= threads:
                yield _result(*waiting.popleft(), problems)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(image: ImageId, future: "Future[Stored]", problems: list[str]) -> tuple[ImageId, Stored] | None:
    try:
        return image, future.result()
    except (DataError, OSError) as error:
        problems.append(str(error))
        return None


def _require_room(folder: Path, images: Iterable[ImageId]) -> None:
    needed = sum(image.stride for image in images)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder}: the pack needs {amount(needed)}, the disk has {amount(free)} left. {_WAYS_OUT}")


_WAYS_OUT = "Make room, set data.pack to a folder on another disk, or to `off`"


def amount(nbytes: int) -> str:
    """A number of bytes for people."""
    if nbytes >= 1e8:
        return f"{nbytes / 1e9:.1f} GB"
    return f"{nbytes / 1e6:.1f} MB"


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn a fault of the disk into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DataError(f"{folder}: the disk filled up while packing. {_WAYS_OUT}") from error
        raise DataError(
            f"{folder}: the pack cannot be written ({error.strerror or error}). Set data.pack to another folder, or to "
            f"`off`"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from packing into the folder, and clear away what a killed one left."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_NAME).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter().line(f"Another process packs into {folder}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        for abandoned in folder.glob(f".*{SUFFIX}"):
            abandoned.unlink()
        yield


def _sync_folder(folder: Path) -> None:
    """Have the disk remember a name that was given in the folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
