"""Describes the samples of a dataset. This module imports no torch, so that listing samples is fast.

`contracts` offers both names too, for authors of datasets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

Key = TypeVar("Key")
"""The key by which a dataset finds an image, such as a path or a record number. It must be hashable; the core does not
look into it."""

Row = tuple[float, float, float]


# A msgspec struct, because decoding a cameras file then checks every number of it.
class CameraRecord(msgspec.Struct, frozen=True):
    """The camera of one view.

    Attributes:
        homography: Rows of the 3×3 matrix, texture (u, v, 1) to view (x, y, w); w > 0 over the whole texture.
        position: Camera centre (x, y, z), in sides of the texture tile; z > 0.
    """

    homography: tuple[Row, Row, Row]
    position: Row


@dataclass(frozen=True)
class Sample(Generic[Key]):
    """One sample: views of a material, and its true maps.

    Images are identified by keys. Samples that share an image share its key.

    Attributes:
        id: Unique in a dataset, such as `clean/sample_0000`.
        condition: How carefully the sample was captured, such as `clean` or `dirty`.
        material: Name of the material that it shows. Splits are by material.
        views: Key of each view.
        maps: Keys of the true maps, by map name.
        cameras: One camera for each view; None when the views are not aligned.
        capture_kind: How the sample was captured, such as `flash` or `no_flash` (`materials.capture_kinds`).
    """

    id: str
    condition: str
    material: str
    views: tuple[Key, ...]
    maps: Mapping[str, Key]
    cameras: tuple[CameraRecord, ...] | None = None
    capture_kind: str = "flash"
