"""Gives access to images by key. They are decoded at each use, or mapped from a pack.

A pack holds images that were decoded once, in files that are mapped into memory. It is a folder of shards. A shard is
one file. It never changes once it has its final name:

    pixels of each image, channels first, at a multiple of 64 bytes | index (JSON) | its length, 8 bytes | b"NBRPACK3"

An image is identified by the content that it was decoded from and the size that it was decoded to, so a shard can be
out of use but never out of date. Recipes that read the same images at the same size share them, whatever their splits,
curricula or numbers of views.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from neuropbr_core.contracts import SampleSource
from neuropbr_core.data.images import Stored
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.reading import open_bytes

MAGIC = b"NBRPACK3"
"""The last bytes of every shard. The number is that of the format *and* of the decoding: raise it when `data.decoding`
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
        with open_bytes(path) as file:
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


class DecodedCache:
    """A bounded store of decoded images, for several threads.

    A pickled copy, which another process receives, starts empty: reading an image again costs less than sending it.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        """Hold at most `limit` bytes."""
        self.limit = limit
        self.used = 0
        self._items: OrderedDict[Hashable, Stored] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, load: Callable[[], Stored]) -> Stored:
        """Return the image of `key`, and call `load` when the store does not hold it.

        All callers share the array and must not write into it.
        """
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        # Loaded without the lock, so that threads decode side by side. Two threads may decode the same image; the
        # first of them to finish stores it.
        image = load()
        with self._lock:
            if image.nbytes <= self.limit and key not in self._items:
                self._items[key] = image
                self.used += image.nbytes
                while self.used > self.limit:
                    self.used -= self._items.popitem(last=False)[1].nbytes
        return image

    def __len__(self) -> int:
        return len(self._items)

    def __reduce__(self) -> tuple[type["DecodedCache"], tuple[int]]:
        return DecodedCache, (self.limit,)


class Images(Protocol):
    """The images of a dataset. Several threads use it, and nobody writes into the arrays that it returns."""

    @property
    def instant(self) -> bool:
        """Whether an image costs no more than the pixels that are read from it."""

    def view(self, key: Hashable) -> Stored:
        """Return a view `(3, photo_size, photo_size)`.

        Raises:
            DataError: It cannot be read.
        """

    def map(self, name: str, key: Hashable) -> Stored:
        """Return a map in stored form `(C, output_size, output_size)`.

        Raises:
            DataError: It cannot be read.
        """


class DecodedImages:
    """Images that a source decodes at each use, unless the cache holds them."""

    instant = False

    def __init__(
        self, source: SampleSource, photo_size: int, output_size: int, cache: DecodedCache | None = None
    ) -> None:
        """Decode nothing yet.

        Args:
            source: The source of the images.
            photo_size: Side of views in pixels.
            output_size: Side of maps in pixels.
            cache: Where decoded images are kept; default: a cache of 1 GiB.
        """
        if cache is None:  # an empty cache is false, so `cache or DecodedCache()` would replace it
            cache = DecodedCache()
        self.cache = cache
        self._source = source
        self._photo_size = photo_size
        self._output_size = output_size

    def view(self, key: Hashable) -> Stored:
        """Return a view."""
        return self._image(key, VIEW, self._photo_size)

    def map(self, name: str, key: Hashable) -> Stored:
        """Return a map."""
        return self._image(key, name, self._output_size)

    def _image(self, key: Hashable, role: str, size: int) -> Stored:
        # The same file may be a view of one sample and a map of another, at another size.
        return self.cache.get((key, role, size), lambda: read_image(self._source, key, role, size))


class PackedImages:
    """Images of a pack. Nothing is copied: a crop reads its own part of the file alone."""

    instant = True

    def __init__(self, images: Mapping[tuple[str, Hashable], ImageId], slots: Mapping[ImageId, Slot]) -> None:
        """Map nothing yet.

        Args:
            images: Identity of each image, by role and key.
            slots: Place of each image in the pack.
        """
        self._places = {}
        for role_and_key, image in images.items():
            self._places[role_and_key] = (slots[image], image)
        self._files: dict[Path, Stored] = {}

    def view(self, key: Hashable) -> Stored:
        """Return a view."""
        return self._image(VIEW, key)

    def map(self, name: str, key: Hashable) -> Stored:
        """Return a map."""
        return self._image(name, key)

    def _image(self, role: str, key: Hashable) -> Stored:
        slot, image = self._places[role, key]
        # Two threads may map the same file at once. Both maps are valid, and the later one is kept.
        file = self._files.get(slot.shard)
        if file is None:
            try:
                # A plain array over the mapped file: a slice of a `memmap` costs more to make.
                file = np.memmap(slot.shard, dtype=np.uint8, mode="r").view(np.ndarray)
            except OSError as error:
                raise DataError(
                    f"{slot.shard}: cannot be opened ({error.strerror}); was the pack removed? Start again"
                ) from error
            self._files[slot.shard] = file
        return file[slot.offset : slot.offset + image.nbytes].reshape(image.shape)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the mapped files, because pickling would copy them whole."""
        return {"_places": self._places, "_files": {}}


def read_image(source: SampleSource, key: Hashable, role: str, size: int) -> Stored:
    """Have a source decode an image, and check the result.

    Args:
        source: The source.
        key: Key of the image.
        role: `VIEW`, or the name of a map.
        size: Side in pixels.

    Returns:
        The image, uint8 `(C, size, size)`.

    Raises:
        DataError: The image cannot be read, or the source breaks its contract.
    """
    pixels: Any  # sources are plugins: what they return is not known before it is checked
    if role == VIEW:
        pixels = source.read_view(key, size)
    else:
        pixels = source.read_map(role, key, size)
    wanted = ImageId("", role, size).shape
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != wanted:
        if isinstance(pixels, np.ndarray):
            returned = f"{pixels.dtype} {pixels.shape}"
        else:
            returned = f"a {type(pixels).__name__}"
        raise DataError(f"{type(source).__qualname__} returned {returned} for {role} {key}; it must be uint8 {wanted}")
    return pixels
