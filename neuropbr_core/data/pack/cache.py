"""Keeps decoded images in memory up to a number of bytes, and drops the least recently used ones first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import numpy as np
import numpy.typing as npt

Stored = npt.NDArray[np.uint8]


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
