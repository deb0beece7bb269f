"""A pack: images decoded once, in files that are mapped into memory.

A pack is a folder of shards. A shard is one file that is never changed once it has its name:

    pixels of each image, channels first, at a multiple of 64 bytes | index (JSON) | its length, 8 bytes | b"NBRPACK2"

An image in it is known by what it was decoded from and to, so a shard can be out of use but never out of date. Recipes
that read the same images at the same size share them, whatever their splits, curricula or numbers of views.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data

MAGIC = b"NBRPACK2"
"""Ends every shard. Its number is that of the format *and* of the decoding: count it up when `data.images` reads
pixels differently, and old packs are passed over."""

FOLDER_NAME = ".pack"
DIGESTS_NAME = "digests.json"
SUFFIX = ".pack"
VIEW = "view"
"""Role of a view; the role of a map is its name."""

ALIGNMENT = 64
_FOOTER = 8 + len(MAGIC)


class ImageId(NamedTuple):
    """Which image, decoded how.

    Attributes:
        digest: Name of the content that it is decoded from.
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
        """Bytes that it takes in a shard."""
        return -(-self.nbytes // ALIGNMENT) * ALIGNMENT


class Slot(NamedTuple):
    """Where the pixels of an image lie."""

    shard: Path
    offset: int


@dataclass(frozen=True)
class Shard:
    """One file of a pack, and what it holds."""

    path: Path
    images: tuple[ImageId, ...]

    def slots(self) -> dict[ImageId, Slot]:
        """Where each image lies."""
        return {image: Slot(self.path, offset) for image, offset in zip(self.images, offsets(self.images), strict=True)}


def offsets(images: Iterable[ImageId]) -> list[int]:
    """Where images begin in a shard that holds them in this order."""
    found = []
    position = 0
    for image in images:
        found.append(position)
        position += image.stride
    return found


def footer(images: Iterable[ImageId]) -> bytes:
    """What stands behind the pixels of a shard."""
    index = msgspec.json.encode([tuple(image) for image in images])
    return index + len(index).to_bytes(8, "little") + MAGIC


def read_shard(path: Path) -> Shard | None:
    """Read a shard's index; None when it is no shard of this format, or not of the length that it should have."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _FOOTER))
            end = file.read(_FOOTER)
            length = int.from_bytes(end[:8], "little")
            if not end.endswith(MAGIC) or length > size - _FOOTER:
                return None
            file.seek(size - _FOOTER - length)
            images = tuple(ImageId(*entry) for entry in msgspec.json.decode(file.read(length), type=list[_Entry]))
    except (OSError, msgspec.DecodeError):
        return None
    whole = sum(image.stride for image in images) + length + _FOOTER == size
    if whole:
        return Shard(path, images)
    return None


_Entry = tuple[str, str, int]


def shards(folder: Path) -> list[Shard]:
    """The sound shards of a pack, by name; none when there is no such folder."""
    return [shard for path in sorted(folder.glob(f"*{SUFFIX}")) if (shard := read_shard(path)) is not None]


def packed_images(folder: Path) -> dict[ImageId, Slot]:
    """Where each image of a pack lies."""
    return {image: slot for shard in shards(folder) for image, slot in shard.slots().items()}


def choose_folder(data: Data) -> Path | None:
    """Return where the recipe's pack lies: `data.pack` if it names a folder, else `.pack` in the dataset's folder.

    Args:
        data: Section `data` of a recipe.

    Returns:
        The folder, which need not exist; None when packing is off, or the section names no folder of its own.
    """
    if data.pack == "off":
        return None
    if data.pack != "auto":
        return Path(data.pack)
    home = data.root or data.input_dir
    if home is None:
        return None
    return Path(home) / FOLDER_NAME
