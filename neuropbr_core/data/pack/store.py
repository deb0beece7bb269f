"""Images by key: decoded when asked for, or mapped from a pack."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from neuropbr_core.contracts import SampleSource
from neuropbr_core.data.pack.cache import DecodedCache
from neuropbr_core.data.pack.format import VIEW, ImageId, Slot
from neuropbr_core.errors import DataError

Stored = npt.NDArray[np.uint8]


class Images(Protocol):
    """Where a dataset takes its images from; asked by several threads. What it returns is not to be written into."""

    @property
    def instant(self) -> bool:
        """Whether an image costs no more than the pixels that are looked at."""

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
    """Images that a source decodes whenever they are asked for and not in the cache."""

    instant = False

    def __init__(
        self, source: SampleSource, photo_size: int, output_size: int, cache: DecodedCache | None = None
    ) -> None:
        """Decode views to `photo_size` and maps to `output_size`; a cache of 1 GiB is made when none is given."""
        if cache is None:
            self.cache = DecodedCache()
        else:
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
        return self.cache.get((key, role, size), lambda: read_image(self._source, key, role, size))


class PackedImages:
    """Images of a pack. Nothing is copied: reading a part of one touches that part of the file alone."""

    instant = True

    def __init__(self, images: Mapping[tuple[str, Hashable], ImageId], slots: Mapping[ImageId, Slot]) -> None:
        """Map nothing yet.

        Args:
            images: Which image each key stands for, by role and key.
            slots: Where in the pack it lies.
        """
        self._places = {asked: (slots[image], image) for asked, image in images.items()}
        self._files: dict[Path, Stored] = {}

    def view(self, key: Hashable) -> Stored:
        """Return a view."""
        return self._image(VIEW, key)

    def map(self, name: str, key: Hashable) -> Stored:
        """Return a map."""
        return self._image(name, key)

    def _image(self, role: str, key: Hashable) -> Stored:
        slot, image = self._places[role, key]
        file = self._files.get(slot.shard)
        if file is None:
            file = self._files[slot.shard] = _mapped(slot.shard)
        return file[slot.offset : slot.offset + image.nbytes].reshape(image.shape)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the mapped files: pickled, they would be copied whole."""
        return {"_places": self._places, "_files": {}}


def read_image(source: SampleSource, key: Hashable, role: str, size: int) -> Stored:
    """Have a source decode an image, and check what it returns.

    Args:
        source: The source.
        key: Its key.
        role: `VIEW`, or the name of a map.
        size: Side in pixels.

    Raises:
        DataError: It cannot be read, or the source breaks its contract.
    """
    pixels: Any
    if role == VIEW:
        pixels = source.read_view(key, size)
    else:
        pixels = source.read_map(role, key, size)
    wanted = ImageId("", role, size).shape
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != wanted:
        if isinstance(pixels, np.ndarray):
            found = f"{pixels.dtype} {pixels.shape}"
        else:
            found = f"a {type(pixels).__name__}"
        raise DataError(f"{type(source).__qualname__} returned {found} for {role} {key}; it must be uint8 {wanted}")
    return pixels


def _mapped(path: Path) -> Stored:
    try:
        return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}); was the pack removed? Start again") from error
