"""The one record of visits, from the loader to the loss.

A new field is declared in `VisitRecord`. Stacking, moving to a device and choosing views work on every field that is
there. Beside the declaration a field needs code only where it is filled (the `draft` methods in `dataset` and `drawn`),
where it is turned into what the network takes (`prepare`), and where it is used.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

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
        crop_to_texture: Matrix from crop to texture coordinates, float32 (`placement.crop_matrix`).
        homographies: Texture to view, float32; None unless the device is to warp.
        positions: Camera centres in tile sides, float32; None unless alignment is recorded.
        gains: Factors of linear light for `jitter.apply_gains`, float32; None when colours stay.
        overview_pixels: The whole frame in few pixels (`overviews.Overviews.get`), uint8; None unless asked for.
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

    With recorded alignment a loader's batch has only the part of each photo that the crop can show (`boxes`), and
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
        # `view_choice` gives indices in ascending order, so all of them are the batch as it is.
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
