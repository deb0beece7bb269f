"""What a dataset says of its samples. Light: no torch.

`contracts` offers both names too, to authors of datasets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

Key = TypeVar("Key")
"""What a dataset finds an image by: a path, a record number; hashable, and anything else to the core."""

Row = tuple[float, float, float]


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

    Images are named by keys; samples that share an image share its key.

    Attributes:
        id: Unique in a dataset, such as `clean/sample_0000`.
        source: Which kind of capture it is, such as `clean` or `dirty`.
        material: Name of what it shows; splits go by it.
        views: Key of each view.
        maps: Keys of the true maps by name.
        cameras: One camera a view; None where views are not aligned.
    """

    id: str
    source: str
    material: str
    views: tuple[Key, ...]
    maps: Mapping[str, Key]
    cameras: tuple[CameraRecord, ...] | None = None
