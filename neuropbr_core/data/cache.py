"""Decoded images kept in memory up to a number of bytes, the least recently used dropped first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

Stored = npt.NDArray[np.uint8]


class DecodedCache:
    """A bounded store of decoded images.

    A copy that goes to a worker process by pickling starts empty; what it holds is cheaper read again than sent.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        """Hold at most `limit` bytes."""
        self.limit = limit
        self.used = 0
        self._items: OrderedDict[Hashable, Stored] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], Stored]) -> Stored:
        """Return the image of `key`, calling `load` when it is not held; callers must not write into it."""
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key]
        image = load()
        if image.nbytes <= self.limit:
            self._items[key] = image
            self.used += image.nbytes
            self.shrink(self.limit)
        return image

    def shrink(self, limit: int) -> None:
        """Set the limit and drop what exceeds it."""
        self.limit = limit
        while self.used > limit:
            self.used -= self._items.popitem(last=False)[1].nbytes

    def __len__(self) -> int:
        return len(self._items)

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "used": 0, "_items": OrderedDict()}
