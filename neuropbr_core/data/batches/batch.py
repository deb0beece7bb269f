"""What a dataset returns for one visit, and what a loader yields for several."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from neuropbr_core.data.batches.buffers import BufferPool

_ALIGNMENT = 64  # bytes; vector instructions and page-locked copies like it


class Item(NamedTuple):
    """One visit of a sample.

    Attributes:
        id: The sample's id, such as `clean/sample_0000`.
        material: Its material.
        views: sRGB-encoded uint8 `(V, 3, h, w)`. With recorded alignment the whole photos, for the device to warp;
            else cut and turned like the maps.
        targets: The true maps of the crop in stored form, uint8 `(C, S, S)` by name.
        homographies: Texture to view, float32 `(V, 3, 3)`; None unless alignment is recorded.
        positions: Camera centres, float32 `(V, 3)`; None unless alignment is recorded.
        frame: Crop to texture, float32 `(3, 3)` (`augmentation.frame_matrix`).
        gains: Factors of linear light for `jitter.apply_gains`, float32 `(V, 3)`; None when colours stay.
        overview: The whole frame (`overviews.Overviews.get`), uint8 `(V, 4, o, o)`; None unless asked for.
        teacher: A teacher's logits of the crop, float16 `(logit_channels, S, S)` by name; None without shards.
    """

    id: str
    material: str
    views: UInt8[Tensor, "V 3 h w"]
    targets: dict[str, UInt8[Tensor, "C S S"]]
    homographies: Float[Tensor, "V 3 3"] | None
    positions: Float[Tensor, "V 3"] | None
    frame: Float[Tensor, "3 3"]
    gains: Float[Tensor, "V 3"] | None = None
    overview: UInt8[Tensor, "V 4 o o"] | None = None
    teacher: dict[str, Float16[Tensor, "L S S"]] | None = None


@dataclass
class Batch:
    """Several visits, stacked; pixels are still uint8. The fields are those of `Item` with a batch axis in front.

    Except that with recorded alignment a loader's batch has only the part of each photo that the crop can show
    (`boxes`), and homographies from the texture to that part.

    A batch is yours for as long as you hold it or any of its tensors. When you let go of it, a loader uses its memory
    again, so loops that do so before they ask for the next batch need the memory of one.
    """

    ids: list[str]
    materials: list[str]
    views: UInt8[Tensor, "B V 3 h w"]
    targets: dict[str, UInt8[Tensor, "B C S S"]]
    homographies: Float[Tensor, "B V 3 3"] | None
    positions: Float[Tensor, "B V 3"] | None
    frame: Float[Tensor, "B 3 3"]
    gains: Float[Tensor, "B V 3"] | None = None
    overview: UInt8[Tensor, "B V 4 o o"] | None = None
    teacher: dict[str, Float16[Tensor, "B L S S"]] | None = None

    def __len__(self) -> int:
        """Visits in the batch."""
        return len(self.ids)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device; from pinned memory the copy does not wait."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))

    def with_views(self, chosen: Sequence[int]) -> "Batch":
        """Return the batch with these views of each sample only."""
        if len(chosen) == self.views.shape[1]:
            return self
        index = torch.tensor(chosen, device=self.views.device)

        def choose(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.index_select(1, index)

        return replace(
            self,
            views=self.views.index_select(1, index),
            homographies=choose(self.homographies),
            positions=choose(self.positions),
            gains=choose(self.gains),
            overview=choose(self.overview),
        )

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; a `torch.utils.data.DataLoader` calls it when told to pin."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(
            self.ids,
            self.materials,
            move(self.views),
            {name: move(target) for name, target in self.targets.items()},
            None if self.homographies is None else move(self.homographies),
            None if self.positions is None else move(self.positions),
            move(self.frame),
            None if self.gains is None else move(self.gains),
            None if self.overview is None else move(self.overview),
            None if self.teacher is None else {name: move(logits) for name, logits in self.teacher.items()},
        )


def carve(
    pool: BufferPool, shapes: Mapping[str, tuple[int, ...]], *, pinned: bool = False
) -> dict[str, UInt8[Tensor, "..."]]:
    """Lay out tensors in one piece of memory.

    Args:
        pool: Lends the memory.
        shapes: Shape of each tensor by name.
        pinned: Whether the memory is to be page-locked.

    Returns:
        uint8 tensors of these shapes; what they hold is arbitrary.
    """
    ends, end = {}, 0
    for name, shape in shapes.items():
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + math.prod(shape)
        ends[name] = (start, end)
    memory = pool.take(end, pinned=pinned)
    return {name: memory[slice(*ends[name])].view(shape) for name, shape in shapes.items()}


def collate(items: Sequence[Item]) -> Batch:
    """Stack visits of the same shapes into a batch."""
    return Batch(
        [item.id for item in items],
        [item.material for item in items],
        torch.stack([item.views for item in items]),
        {name: torch.stack([item.targets[name] for item in items]) for name in items[0].targets},
        _stack([item.homographies for item in items]),
        _stack([item.positions for item in items]),
        torch.stack([item.frame for item in items]),
        _stack([item.gains for item in items]),
        _stack([item.overview for item in items]),
        _stack_maps([item.teacher for item in items]),
    )


def _stack_maps(maps: Sequence[dict[str, Tensor] | None]) -> dict[str, Tensor] | None:
    present = [each for each in maps if each is not None]
    return {name: torch.stack([each[name] for each in present]) for name in present[0]} if present else None


def _stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present) if present else None
