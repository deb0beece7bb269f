"""Gives access to images by key. They are decoded at each use, or mapped from a pack."""

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
