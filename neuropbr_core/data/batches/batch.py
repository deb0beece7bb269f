"""The one record of visits, from the loader to the loss, and the memory that its pixels are in.

A new field is declared in `VisitRecord`. Stacking, moving to a device and choosing views work on every field that is
there. Beside the declaration a field needs code only where it is filled (the `draft` methods in `dataset` and `drawn`),
where it is turned into what the network takes (`prepare`), and where it is used.

Memory for batches is used again and again. Fresh memory costs more than the pixels that go into it: the system hands
out each page on first touch, and clears it.
"""

import itertools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from threading import Lock
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

_PER_VIEW = MappingProxyType({"per_view": True})
"""Marks fields whose axis behind the batch is that of the views."""


@dataclass(frozen=True, eq=False, kw_only=True)
class VisitRecord:
    """The fields of one visit (`Item`), of several (`Batch`), and of several on the device (`prepare.Prepared`).

    `*B` is no axis for an item, and the visits' axis for a batch.

    Attributes:
        ids: Each visit's sample, such as `clean/sample_0000`.
        materials: Each visit's material.
        views: sRGB-encoded uint8. With recorded alignment photos, for the device to warp, unless `visible_pixels` says
            that they are aligned; else cut and turned like the maps.
        targets: The true maps of the crop in stored form, uint8 by name.
        crop_to_texture: Matrix from crop to texture coordinates, float32 (`crops.crop_matrix`).
        homographies: Texture to view, float32; None unless the device is to warp.
        positions: Camera centres in tile sides, float32; None unless alignment is recorded.
        gains: Factors of linear light for `crops.apply_gains`, float32; None when colours stay.
        overview_pixels: The whole frame in few pixels (`dataset.Overviews.get`), uint8; None unless asked for.
        teacher_logits: A teacher's logits of the crop, float16 by name; None without stored predictions.
        visible_pixels: 255 where an aligned view sees the crop, else 0; None for views that are not aligned yet.
    """

    ids: list[str]
    materials: list[str]
    views: UInt8[Tensor, "*B V 3 h w"] = field(metadata=_PER_VIEW)
    targets: dict[str, UInt8[Tensor, "*B C S S"]]
    crop_to_texture: Float[Tensor, "*B 3 3"]
    homographies: Float[Tensor, "*B V 3 3"] | None = field(default=None, metadata=_PER_VIEW)
    positions: Float[Tensor, "*B V 3"] | None = field(default=None, metadata=_PER_VIEW)
    gains: Float[Tensor, "*B V 3"] | None = field(default=None, metadata=_PER_VIEW)
    overview_pixels: UInt8[Tensor, "*B V 4 o o"] | None = field(default=None, metadata=_PER_VIEW)
    teacher_logits: dict[str, Float16[Tensor, "*B L S S"]] | None = None
    visible_pixels: UInt8[Tensor, "*B V 1 h w"] | None = field(default=None, metadata=_PER_VIEW)


@dataclass(frozen=True, eq=False, kw_only=True)
class Item(VisitRecord):
    """One visit, without a batch axis; with recorded alignment its photos are whole."""

    @property
    def id(self) -> str:
        """The sample's id, such as `clean/sample_0000`."""
        return self.ids[0]

    @property
    def material(self) -> str:
        """The sample's material."""
        return self.materials[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch(VisitRecord):
    """Several visits, stacked; pixels are still uint8.

    With recorded alignment a loader's batch has only the part of each photo that the crop can show (`crops`), and
    homographies from the texture to that part.

    A batch is yours for as long as you hold it or any of its tensors. When you let go of it, a loader uses its memory
    again, so loops that do so before they ask for the next batch need the memory of one.
    """

    def __len__(self) -> int:
        """Visits in the batch."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        """Return one visit; its tensors are views into the batch."""
        parts = _tensors(self, lambda tensor: tensor[index])
        return Item(ids=[self.ids[index]], materials=[self.materials[index]], **parts)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device; from pinned memory the copy does not wait."""
        # Only torch's pool of pinned memory waits for copies that are under way before it lends the memory again.
        moved = _tensors(self, lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))
        return replace(self, **moved)

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; a `torch.utils.data.DataLoader` calls it when told to pin."""
        return replace(self, **_tensors(self, Tensor.pin_memory))

    def with_views(self, chosen: Sequence[int]) -> "Batch":
        """Return the batch with these views of each sample only."""
        # `feed.draw_views` gives indices in ascending order, so all of them are the batch as it is.
        if len(chosen) == self.views.shape[1]:
            return self
        index = torch.tensor(chosen, device=self.views.device)
        return replace(self, **_tensors(self, lambda tensor: tensor.index_select(1, index), per_view=True))


def collate(items: Sequence[Item]) -> Batch:
    """Stack visits of the same shapes into a batch."""
    stacked: dict[str, Any] = {}
    # Fields of one recipe's visits agree: what the first one has or lacks, all have or lack.
    for each in fields(VisitRecord):
        values = [getattr(item, each.name) for item in items]
        if isinstance(values[0], Tensor):
            stacked[each.name] = torch.stack(values)
        elif isinstance(values[0], dict):
            stacked[each.name] = {}
            for name in values[0]:
                stacked[each.name][name] = torch.stack([value[name] for value in values])
        elif isinstance(values[0], list):
            stacked[each.name] = list(itertools.chain(*values))
    return Batch(**stacked)


def _tensors(record: VisitRecord, change: Callable[[Tensor], Tensor], *, per_view: bool = False) -> dict[str, Any]:
    """Change every tensor of a record, or only those with an axis of views; by field."""
    changed: dict[str, Any] = {}
    for each in fields(record):
        value = getattr(record, each.name)
        if per_view and not each.metadata.get("per_view"):
            continue
        if isinstance(value, Tensor):
            changed[each.name] = change(value)
        elif isinstance(value, dict):
            changed[each.name] = {}
            for name, tensor in value.items():
                changed[each.name][name] = change(tensor)
    return changed


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
