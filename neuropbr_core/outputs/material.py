"""The maps of one material, from memory or from a folder, with the maps that are derived from them."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.data.decoding import describe_image
from neuropbr_core.data.images import read_image
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS, NORMAL, MapSpec
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.relief import ambient_occlusion, cavity_and_edge, heights_from_normals
from neuropbr_core.materials.seams import Seams, make_tileable, measure_seams

DERIVED = ("height", "ao", "cavity", "edge")
"""Maps that are computed from the normals; none of them was measured."""

_SUPPORT = 3
"""Pixels of the coarser image that Lanczos reads on each side."""


@dataclass(frozen=True)
class Material:
    """The maps of one material.

    Attributes:
        name: Its name: letters, digits and `_`, a letter first.
        maps: All four maps, `(1, C, N, N)` in their ranges, on the CPU.
        made_by: Origin of the maps, for manifests.
        tiling: `given` when the maps were taken as they are, `cut` when `tileable` changed them.
    """

    name: str
    maps: Maps
    made_by: Mapping[str, str] = field(default_factory=dict)
    tiling: str = "given"

    def __post_init__(self) -> None:
        """Refuse a material that lacks a map: no program could show it.

        Raises:
            DataError: A map is missing.
        """
        missing = [name for name in MAPS if name not in self.maps]
        if missing:
            raise DataError(f"{self.name}: has no map {', '.join(missing)}; a material needs {', '.join(MAPS)}")

    @property
    def size(self) -> int:
        """Side of the maps in pixels."""
        return self.maps[NORMAL.name].shape[-1]

    @cached_property
    def seams(self) -> Seams:
        """How visible the borders are when the material repeats."""
        return measure_seams(self.maps)

    @property
    def repeats(self) -> bool:
        """Whether the texture continues across its borders: it was cut so, or its borders look so."""
        return self.tiling == "cut" or self.seams.tiles

    @cached_property
    def relief(self) -> float:
        """Height of the highest point above the lowest, in sides of the texture."""
        return float(self._heights.max())

    # Each is computed once and only when a target asks: on 2048² maps they take longer than all files together.
    @cached_property
    def _heights(self) -> Tensor:
        return heights_from_normals(self.maps[NORMAL.name][0], periodic=self.repeats)

    @cached_property
    def _cavity_and_edge(self) -> tuple[Tensor, Tensor]:
        return cavity_and_edge(self._heights, periodic=self.repeats)

    @cached_property
    def _occlusion(self) -> Tensor:
        return ambient_occlusion(self._heights, periodic=self.repeats)

    def layer(self, name: str) -> Tensor:
        """A map or a derived map `(C, N, N)`: in its range of `neuropbr_core.maps`, or in [0, 1] if derived.

        Derived maps are computed on first use. A flat material has height 1/2 everywhere.
        """
        if name == "height":
            # Nothing to divide by; the middle is what displacement takes for the level of the surface.
            if self.relief == 0:
                return torch.full_like(self._heights, 0.5)[None]
            return (self._heights / self.relief)[None]
        if name == "ao":
            return self._occlusion[None]
        if name == "cavity":
            return self._cavity_and_edge[0][None]
        if name == "edge":
            return self._cavity_and_edge[1][None]
        return self.maps[name][0]

    def tileable(self) -> "Material":
        """The same material, cut so that it tiles; itself when it tiles already."""
        if self.seams.tiles:
            return self
        return Material(self.name, make_tileable(self.maps), self.made_by, "cut")

    def resized(self, size: int) -> "Material":
        """The same material with maps of another size."""
        if size == self.size:
            return self
        maps = resample_maps(self.maps, size, periodic=self.repeats)
        return Material(self.name, maps, self.made_by, self.tiling)


def read_material(folder: str | Path, name: str | None = None) -> Material:
    """Read the maps that `neuropbr infer` wrote, or others with the same names and conventions.

    Args:
        folder: Folder with `albedo.png`, `roughness.png`, `metallic.png` and `normal.png`, of 8 or 16 bits; OpenGL
            normals.
        name: The material's name; default: the folder's.

    Raises:
        DataError: A map is missing, damaged, not square, or of another size than the albedo.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; name one that has {', '.join(spec.file_name for spec in MAPS.values())}"
        )
    missing = []
    # All that are missing at once.
    for spec in MAPS.values():
        if not (folder / spec.file_name).is_file():
            missing.append(spec.file_name)
    if missing:
        raise DataError(
            f"{folder}: has no {', '.join(missing)}; a package is made of all four maps, as `neuropbr infer` writes "
            f"them (`neuropbr data import` converts downloaded materials)"
        )
    maps = {}
    for spec in MAPS.values():
        path = folder / spec.file_name
        pixels = read_image(path, spec.image_mode)
        if spec is NORMAL and describe_image(path).channels == 1:
            raise DataError(f"{path}: is grey; a normal map has three channels. Is it a height map?")
        levels = 255
        if pixels.dtype == np.uint16:
            levels = 65535
        # Signed 32-bit integers, because PyTorch does little with uint16.
        stored = torch.from_numpy(np.moveaxis(pixels, -1, 0).astype(np.int32))
        maps[spec.name] = decode_map(spec, stored, levels)[None]
        height, width = pixels.shape[:2]
        side = maps["albedo"].shape[-1]
        if (height, width) != (side, side):
            raise DataError(
                f"{path}: is {width}×{height} pixels; maps are square and of one size, and the albedo is {side} wide"
            )
    return Material(material_name(name or folder.resolve().name), maps, {"maps": str(folder)})


def material_name(text: str) -> str:
    """Turn any text into a name that files, scripts and scene descriptions allow.

    Returns:
        Letters, digits and `_`, a letter first. Texts without any letter or digit of ASCII, such as names in another
        script, get a name of their digest, because programs replace materials of equal names.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    if text and not name:
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return f"material_{name}"
    if not name[:1].isalpha():
        return f"material_{name}".rstrip("_")
    return name


def resample_maps(maps: Maps, size: int, *, periodic: bool = False) -> Maps:
    """Resample maps by Lanczos with a support of three pixels.

    Values are resampled as they are stored (albedo sRGB-encoded) and clamped to their range, which the filter
    overshoots at edges. Normals become unit vectors again.

    Args:
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`.
        size: Side of the result in pixels, at least 1.
        periodic: Whether the maps tile; the filter then reads across their borders, so that they still do.

    Returns:
        Maps `(1, channels, size, size)`; a map that has this size already is returned unchanged.

    Source: Duchon 1979, "Lanczos Filtering in One and Two Dimensions"; the filter is Pillow's.
    """
    return {name: _resample(MAPS[name], value, size, periodic) for name, value in maps.items()}


def _resample(spec: MapSpec, value: Float[Tensor, "1 C H W"], size: int, periodic: bool) -> Float[Tensor, "1 C s s"]:
    height, width = value.shape[-2:]
    if (height, width) == (size, size):
        return value
    values = value.float()
    box = (0.0, 0.0, float(width), float(height))
    if periodic:
        # As many texels of the neighbouring tiles as the filter reads, which are more when it averages many.
        margin = min(height, width, _SUPPORT * max(1, -(-max(height, width) // size)) + 1)
        values = F.pad(values, (margin, margin, margin, margin), mode="circular")
        box = (margin, margin, margin + width, margin + height)
    # Channel by channel: Pillow resamples floats without rounding only in images of one channel.
    resized = []
    for channel in values[0]:
        image = Image.fromarray(channel.numpy()).resize((size, size), Image.Resampling.LANCZOS, box=box)
        resized.append(np.asarray(image))
    resampled = torch.from_numpy(np.stack(resized))[None]
    if spec.activation == "slopes":
        return F.normalize(resampled, dim=1)
    return resampled.clamp(*spec.value_range)
