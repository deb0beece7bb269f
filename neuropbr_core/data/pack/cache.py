"""Decoded images kept in memory up to a number of bytes, the least recently used dropped first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import numpy as np
import numpy.typing as npt

Stored = npt.NDArray[np.uint8]


class DecodedCache:
    """A bounded store of decoded images, for several threads.

    A copy that goes to another process by pickling starts empty; what it holds is cheaper read again than sent.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        """Hold at most `limit` bytes."""
        self.limit = limit
        self.used = 0
        self._items: OrderedDict[Hashable, Stored] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, load: Callable[[], Stored]) -> Stored:
        """Return the image of `key`, calling `load` when it is not held; callers must not write into it."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        image = load()
        with self._lock:
            if image.nbytes <= self.limit and key not in self._items:
                self._items[key] = image
                self.used += image.nbytes
                self._drop()
        return image

    def _drop(self) -> None:
        while self.used > self.limit:
            self.used -= self._items.popitem(last=False)[1].nbytes

    def __len__(self) -> int:
        return len(self._items)

    def __reduce__(self) -> tuple[type["DecodedCache"], tuple[int]]:
        return DecodedCache, (self.limit,)
