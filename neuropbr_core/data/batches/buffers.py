"""Memory for batches, used again and again.

Fresh memory costs more than the pixels that go into it: the system hands out each page on first touch, and clears it.
"""

import weakref
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

Memory = npt.NDArray[np.uint8]

_SPARE = 2  # unused pieces that are kept; a loop needs one or two


class BufferPool:
    """Lends pieces of memory; one comes back when nobody holds a tensor in it any more.

    So a batch is safe for as long as it, or anything that shares its memory, is held, and a loop that lets go of a
    batch before it asks for the next runs in the memory of one. Page-locked memory comes from torch's own pool, which
    also waits for copies to the device that are under way.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._spare: list[Memory] = []
        self._lock = Lock()

    def take(self, size: int, *, pinned: bool = False) -> UInt8[Tensor, " size"]:
        """Lend `size` bytes; what they hold is arbitrary.

        Args:
            size: Bytes.
            pinned: Whether to return page-locked memory, from which copies to a CUDA device need not be waited for.
        """
        if pinned:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        memory = self._spare_of(size)
        lent = memory[:size]  # an array of its own: its end is the end of the loan
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return torch.from_numpy(lent)

    @property
    def spare_bytes(self) -> int:
        """Bytes that are kept and not lent."""
        return sum(memory.nbytes for memory in self._spare)

    def _spare_of(self, size: int) -> Memory:
        """The smallest spare piece that is large enough, or a new one; smaller ones are then given up."""
        with self._lock:
            fitting = [memory for memory in self._spare if memory.nbytes >= size]
            if fitting:
                best = min(fitting, key=lambda memory: memory.nbytes)
                self._spare = [memory for memory in self._spare if memory is not best]
                return best
            self._spare.clear()
        return np.empty(size, np.uint8)

    def _take_back(self, memory: Memory) -> None:
        with self._lock:
            self._spare = sorted([*self._spare, memory], key=lambda memory: -memory.nbytes)[:_SPARE]

    def __reduce__(self) -> tuple[type["BufferPool"], tuple[()]]:
        return BufferPool, ()
