"""Writes a pack: every image is decoded once, in parallel, into shards that appear whole or not at all."""

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

from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.data.pack.store import SUFFIX, ImageId, footer, packed_images, shards
from neuropbr_core.errors import DataError
from neuropbr_core.parallel import cores
from neuropbr_core.reporting import reporter, track

Stored = npt.NDArray[np.uint8]
Read = Callable[[], Stored]

SHARD_BYTES = 1 << 30
"""Most bytes of pixels in a shard, unless it holds one image alone. A crash costs this much work at most."""

_LOCK_NAME = "lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)  # a full disk, and a user's full quota
_WAYS_OUT = "Make room, set data.pack to a folder on another disk, or to `off`"


@dataclass(frozen=True)
class PackReport:
    """The outcome of packing.

    Attributes:
        packed: Number of images decoded and written.
        kept: Number of images that the pack had already.
        nbytes: Bytes of pixels written.
        seconds: Time that packing took.
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

    After Ctrl-C, and after an error, the images decoded so far are kept; the next call adds the rest.

    Args:
        folder: The pack. It is created when it is missing.
        wanted: Every image that the pack must have, with a function that decodes it. Neighbours are stored side by
            side.
        threads: Images decoded at a time; default: one for each core.

    Returns:
        Counts of the images that were packed and of those that the pack had.

    Raises:
        DataError: Images cannot be decoded (the message lists all; the others are packed), there is not enough room,
            or the folder cannot be written.
    """
    start = time.monotonic()
    problems: list[str] = []
    with _explained(folder), _alone(folder):
        # Looked up under the lock: another process may have packed some of them while this one waited.
        missing = missing_images(folder, wanted)
        needed = sum(image.stride for image in missing)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise DataError(f"{folder}: the pack needs {amount(needed)}, the disk has {amount(free)} left. {_WAYS_OUT}")
        jobs = [(image, wanted[image]) for image in missing]
        decoded = track(_decode_in_order(jobs, threads or cores(), problems), len(jobs), "packing images")
        written = _write_shards(folder, decoded)
    raise_problems(problems)
    return PackReport(
        packed=len(written),
        kept=len(wanted) - len(missing),
        nbytes=sum(image.nbytes for image in written),
        seconds=time.monotonic() - start,
    )


def missing_images(folder: Path, wanted: Iterable[ImageId]) -> list[ImageId]:
    """List the images that a pack lacks, in their order."""
    present = packed_images(folder)
    return [image for image in wanted if image not in present]


def prune_pack(folder: Path, digests: Collection[str]) -> int:
    """Remove the shards that hold no image of any of these contents.

    Args:
        folder: The pack.
        digests: Digests of the contents that are in use.

    Returns:
        Bytes that were freed.

    Raises:
        DataError: The folder cannot be written.
    """
    used = set(digests)
    if not folder.is_dir():
        return 0
    freed = 0
    with _explained(folder), _alone(folder):
        for shard in shards(folder):
            # A shard is removed whole or not at all, because a shard never changes while runs have it mapped.
            if used.isdisjoint(image.digest for image in shard.images):
                freed += shard.path.stat().st_size
                shard.path.unlink()
    return freed


class _OpenShard:
    """A shard that is being written, under a hidden name that no reader looks for."""

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
        """Store the shard on the disk, and give it its final name."""
        with self._file:
            # Ctrl-C may have interrupted `add`: half an image at the end is cut off.
            self._file.seek(self.length)
            self._file.truncate()
            self._file.write(footer(self.images))
            self._file.flush()
            os.fsync(self._file.fileno())
        # Named by its images, so that packing the same images again replaces the shard instead of doubling it.
        content = hashlib.blake2b(repr(self.images).encode(), digest_size=16).hexdigest()
        self._path.replace(self._folder / f"{content}{SUFFIX}")
        # The new name must be on the disk too before anybody relies on it.
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Remove the shard."""
        self._path.unlink(missing_ok=True)
        with self._file:
            # Closing writes buffered bytes, which may not fit on the disk; emptying the file first makes room for them.
            os.ftruncate(self._file.fileno(), 0)


def _write_shards(folder: Path, decoded: Iterable[tuple[ImageId, Stored] | None]) -> list[ImageId]:
    """Write images into shards, and return the images that were written."""
    written: list[ImageId] = []
    shard: _OpenShard | None = None
    try:
        for pair in decoded:
            if pair is None:  # this image could not be decoded
                continue
            image, pixels = pair
            if shard is not None and shard.length + image.stride > SHARD_BYTES:
                shard.finish()
                shard = None
            shard = shard or _OpenShard(folder)
            shard.add(image, pixels)
            written.append(image)
    except OSError:
        # The disk failed, so this shard cannot be completed. Shards that were finished before remain.
        if shard is not None:
            shard.discard()
        raise
    except BaseException:
        # Ctrl-C or a fault of a plugin: the images written so far are good, and are kept.
        if shard is not None:
            shard.finish()
        raise
    if shard is not None:
        shard.finish()
    return written


def _decode_in_order(
    jobs: Sequence[tuple[ImageId, Read]], threads: int, problems: list[str]
) -> Iterator[tuple[ImageId, Stored] | None]:
    """Decode images in parallel and yield them in order; None for a damaged image, whose problem joins `problems`."""
    waiting: deque[tuple[ImageId, Future[Stored]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        # At most `threads` images are decoded ahead of the writer. `Executor.map` would decode all of them at once
        # and fill the memory when the disk is slower than the decoders.
        for position in range(len(jobs) + threads):
            if position < len(jobs):
                image, read = jobs[position]
                waiting.append((image, pool.submit(read)))
            if position < threads:
                continue
            image, future = waiting.popleft()
            try:
                pixels = future.result()
            except (DataError, OSError) as error:
                problems.append(str(error))
                yield None  # so that the progress bar counts it
            else:
                yield image, pixels
    finally:
        pool.shutdown(cancel_futures=True)


def amount(nbytes: int) -> str:
    """Format a number of bytes for people."""
    if nbytes >= 1e8:
        return f"{nbytes / 1e9:.1f} GB"
    return f"{nbytes / 1e6:.1f} MB"


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn a fault of the disk into an error that tells the user what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DataError(f"{folder}: the disk filled up while packing. {_WAYS_OUT}") from error
        raise DataError(
            f"{folder}: the pack cannot be written ({error.strerror or error}). Set data.pack to another folder, or "
            "to `off`"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from packing into the folder, and remove files that a killed process left."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_NAME).open("wb") as file:
        # The system releases this lock when its process ends, however it ends, so no lock outlives its owner.
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter().line(f"Another process packs into {folder}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        for abandoned in folder.glob(f".*{SUFFIX}"):
            abandoned.unlink()
        yield
