"""The format of a pack, which holds images that were decoded once, in files that are mapped into memory.

A pack is a folder of shards. A shard is one file. It never changes once it has its final name:

    pixels of each image, channels first, at a multiple of 64 bytes | index (JSON) | its length, 8 bytes | b"NBRPACK2"

An image is identified by the content that it was decoded from and the size that it was decoded to, so a shard can be
out of use but never out of date. Recipes that read the same images at the same size share them, whatever their splits,
curricula or numbers of views.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from neuropbr_core.maps import MAPS

MAGIC = b"NBRPACK2"
"""The last bytes of every shard. The number is that of the format *and* of the decoding: raise it when `data.images`
decodes to other pixels, and old packs are ignored."""

DIGESTS_NAME = "digests.json"
SUFFIX = ".pack"
VIEW = "view"
"""Role of a view; the role of a map is its name."""

ALIGNMENT = 64  # bytes: a cache line, so that no two images share one
_FOOTER = 8 + len(MAGIC)  # bytes behind the index


class ImageId(NamedTuple):
    """Identity of a decoded image.

    Attributes:
        digest: Digest of the content that it is decoded from.
        role: `VIEW`, or the name of a map.
        size: Side in pixels.
    """

    digest: str
    role: str
    size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        if self.role == VIEW:
            channels = 3
        else:
            channels = MAPS[self.role].channels
        return channels, self.size, self.size

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels."""
        channels, height, width = self.shape
        return channels * height * width

    @property
    def stride(self) -> int:
        """Bytes that it takes in a shard, with padding."""
        return -(-self.nbytes // ALIGNMENT) * ALIGNMENT  # two negations round up


class Slot(NamedTuple):
    """Place of an image's pixels: a shard, and the number of bytes before them."""

    shard: Path
    offset: int


@dataclass(frozen=True)
class Shard:
    """One file of a pack, and its images in the order in which they are stored."""

    path: Path
    images: tuple[ImageId, ...]

    def slots(self) -> dict[ImageId, Slot]:
        """Return the place of each image."""
        # The index holds no offsets: they follow from the order and the sizes of the images.
        slots = {}
        offset = 0
        for image in self.images:
            slots[image] = Slot(self.path, offset)
            offset += image.stride
        return slots


def footer(images: Iterable[ImageId]) -> bytes:
    """Return the bytes that follow the pixels of a shard."""
    index = msgspec.json.encode(list(map(tuple, images)))
    return index + len(index).to_bytes(8, "little") + MAGIC


def read_shard(path: Path) -> Shard | None:
    """Read a shard's index.

    Args:
        path: Any file.

    Returns:
        The shard; None when the file is not a shard of this format, or has another length than its index requires.
    """
    try:
        with path.open("rb") as file:
            # The index is at the end, so a shard can be written in one go without knowing how many images follow.
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _FOOTER))
            end = file.read(_FOOTER)
            length = int.from_bytes(end[:8], "little")
            if not end.endswith(MAGIC) or length > size - _FOOTER:
                return None
            file.seek(size - _FOOTER - length)
            entries = msgspec.json.decode(file.read(length), type=list[tuple[str, str, int]])
    except (OSError, msgspec.DecodeError):
        return None
    images = []
    expected = length + _FOOTER
    for entry in entries:
        images.append(ImageId(*entry))
        expected += images[-1].stride
    # Reading pixels behind the end of a mapped file would kill the process, so the length is checked here.
    if expected != size:
        return None
    return Shard(path, tuple(images))


def shards(folder: Path) -> list[Shard]:
    """List the sound shards of a pack, sorted by name; none when there is no such folder."""
    sound = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        shard = read_shard(path)
        if shard is not None:
            sound.append(shard)
    return sound


def packed_images(folder: Path) -> dict[ImageId, Slot]:
    """Return the place of each image of a pack."""
    slots = {}
    for shard in shards(folder):
        slots.update(shard.slots())
    return slots
