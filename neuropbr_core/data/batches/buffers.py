"""Memory for batches, used again and again.

Fresh memory costs more than the pixels that go into it: the system hands out each page on first touch, and clears it.
"""

import math
import weakref
from collections.abc import Mapping
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

Memory = npt.NDArray[np.uint8]

_SPARE = 2  # unused pieces that are kept; a loop needs one or two
_ALIGNMENT = 64  # bytes; vector instructions and page-locked copies like it


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
        memory: Memory | None = None
        with self._lock:
            for index in reversed(range(len(self._spare))):  # the smallest is the last
                if self._spare[index].nbytes >= size:
                    memory = self._spare.pop(index)
                    break
            if memory is None:
                # Spare pieces that are all too small would stay so: batches of one run hardly change in size.
                self._spare.clear()
        if memory is None:
            memory = np.empty(size, np.uint8)
        # An array of its own, whose end is the end of the loan: the tensor refers to it, and so does any tensor that
        # shares its memory.
        # `atexit` is off because at the end of the process nobody needs the memory back.
        lent = memory[:size]
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return torch.from_numpy(lent)

    @property
    def spare_bytes(self) -> int:
        """Bytes that are kept and not lent."""
        return sum(memory.nbytes for memory in self._spare)

    def _take_back(self, memory: Memory) -> None:
        # Runs in whichever thread lets go of the last tensor, hence the lock.
        with self._lock:
            self._spare.append(memory)
            self._spare.sort(key=lambda memory: -memory.nbytes)
            # The smallest are given up: the largest fit every batch.
            del self._spare[_SPARE:]

    def __reduce__(self) -> tuple[type["BufferPool"], tuple[()]]:
        # Pickled for another process, a pool starts empty there: a lock cannot be sent, and memory need not be.
        return BufferPool, ()


class Buffer(NamedTuple):
    """A tensor that is wanted: its shape and type."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.uint8


def carve(pool: BufferPool, wanted: Mapping[str, Buffer], *, pinned: bool = False) -> dict[str, Tensor]:
    """Place tensors in one piece of memory.

    Args:
        pool: Lends the memory.
        wanted: Shape and type of each tensor by name.
        pinned: Whether the memory is to be page-locked.

    Returns:
        Tensors of these shapes; their values are arbitrary.
    """
    # One loan for all tensors: they come back together, when the last of them is let go of.
    places: dict[str, slice] = {}
    end = 0
    for name, buffer in wanted.items():
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + math.prod(buffer.shape) * buffer.dtype.itemsize
        places[name] = slice(start, end)
    memory = pool.take(end, pinned=pinned)
    tensors = {}
    for name, buffer in wanted.items():
        tensors[name] = memory[places[name]].view(buffer.dtype).view(buffer.shape)
    return tensors
