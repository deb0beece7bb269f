"""Examination of one folder of a dataset: every image is decoded, measured and judged.

The examination runs in other processes, so its arguments and results must pickle.

Materials that are the same or look the same are found by a difference hash, which compares neighbouring means of a
coarse grid: on both sides of a split, they would measure memory. The hash survives scaling, compression and changes of
brightness; it does not survive turning, flipping or shifting.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from neuropbr_core.data.decoding import ImageFacts, Undecodable, describe_image, is_cut_off, verify_image
from neuropbr_core.data.images import Stored, read_map, read_view
from neuropbr_core.data.layout.findings import Finding
from neuropbr_core.data.layout.paths import map_files, missing_maps
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, MAPS, MapSpec
from neuropbr_core.materials.lint import Level, Values, lint_maps

_CELLS = 16  # along a side: the hash has 2 × 16² = 512 bits
_NEAR = 0.15  # of the bits; of 30 scans, the two most alike differ in 0.42
_VISIBLE = 0.2  # deviation of the coarse grid, in 8-bit levels, below which the hash would be of noise


class Look(NamedTuple):
    """Appearance of a material's albedo.

    Attributes:
        digest: Equal for equal pixels.
        signature: Nearly equal for nearly equal pictures; None for a picture without features.
    """

    digest: str
    signature: bytes | None


class LookAlikes(NamedTuple):
    """Materials that belong together.

    Attributes:
        equal: Groups of materials with the same albedo.
        near: Pairs with nearly the same albedo, and the share of signature bits in which they differ.
    """

    equal: list[list[str]]
    near: list[tuple[str, str, float]]


def look_of(albedo: Stored) -> Look:
    """Describe an albedo map, stored `(3, H, W)`.

    Source:
        Krawetz: Kind of Like That (2013), the difference hash; here along rows and columns, 16 × 16 cells each.
    """
    digest = hashlib.blake2b(albedo.tobytes(), digest_size=16)
    digest.update(repr(albedo.shape).encode())  # maps of one colour but different sizes are not equal
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(albedo, 0, 2))).convert("L").convert("F")
    # One cell more than bits along a side: each bit compares two neighbours.
    coarse = image.resize((_CELLS + 1, _CELLS + 1), Image.Resampling.BOX)
    grid = np.asarray(coarse, dtype=np.float32)
    if grid.std() < _VISIBLE:
        return Look(digest.hexdigest(), None)
    across = grid[:-1, 1:] > grid[:-1, :-1]
    down = grid[1:, :-1] > grid[:-1, :-1]
    return Look(digest.hexdigest(), np.packbits(np.stack((across, down))).tobytes())


def find_lookalikes(looks: Mapping[str, Look]) -> LookAlikes:
    """Compare all materials with each other.

    Args:
        looks: A look for each material.

    Returns:
        Names of equal and of nearly equal materials.
    """
    by_digest = defaultdict(list)
    for name in sorted(looks):
        by_digest[looks[name].digest].append(name)
    equal = []
    for group in by_digest.values():
        if len(group) > 1:
            equal.append(group)

    names = []
    signatures = []
    for name, look in sorted(looks.items()):
        if look.signature is not None:
            names.append(name)
            signatures.append(look.signature)
    # 64 bits at a time, so that comparing one hash with all others is a few instructions each.
    bits = np.frombuffer(b"".join(signatures), dtype=np.uint64).reshape(len(names), 2 * _CELLS**2 // 64)
    near = []
    for first, row in enumerate(bits):
        shares = np.bitwise_count(bits[first + 1 :] ^ row).sum(axis=1) / (2 * _CELLS**2)
        for offset in np.flatnonzero(shares <= _NEAR):
            second = first + 1 + int(offset)
            # Materials with the same albedo are in `equal` already.
            if looks[names[first]].digest != looks[names[second]].digest:
                near.append((names[first], names[second], float(shares[offset])))
    return LookAlikes(equal, near)


Oddity = tuple[Level, str, str]
"""Level, code and message."""


@dataclass(frozen=True)
class SampleFolder:
    """A sample to examine.

    Attributes:
        path: Its folder.
        identity: Its name in the dataset, such as `clean/sample_0000`.
        files: Its views.
    """

    path: Path
    identity: str
    files: tuple[Path, ...]

    def __str__(self) -> str:
        """How errors name it."""
        return str(self.path)


@dataclass(frozen=True)
class MaterialFolder:
    """A material to examine; its name is the folder's."""

    path: Path

    def __str__(self) -> str:
        """How errors name it."""
        return str(self.path)


@dataclass
class Examined:
    """The result of examining a folder.

    Attributes:
        path: The folder.
        kind: `views` or `maps`.
        findings: What is wrong or unusual.
        sizes: Size of each image that can be opened, `WIDTH×HEIGHT` by file name.
        files: Number of images examined.
        look: Appearance of a material's albedo; None when the albedo cannot be read.
    """

    path: Path
    kind: str
    findings: list[Finding] = field(default_factory=list)
    sizes: dict[str, str] = field(default_factory=dict)
    files: int = 0
    look: Look | None = None


def examine(folder: SampleFolder | MaterialFolder) -> Examined:
    """Decode and judge the images of a sample or a material."""
    if isinstance(folder, MaterialFolder):
        return _examine_material(folder)
    examined = Examined(folder.path, "views")
    for path in folder.files:
        about = Finding("error", "", str(path), "", sample=folder.identity)
        _decode(examined, path, about, read_view, _view_oddities)
    return examined


def as_values(spec: MapSpec, stored: Stored) -> Values:
    """Convert stored integers into values in the map's range. Normals keep their stored length, which the lint judges.

    Args:
        spec: The map.
        stored: uint8, any shape.

    Returns:
        float32 of the same shape, in `spec.value_range`.
    """
    low, high = spec.value_range
    # The factor is rounded to float32 first: NumPy would otherwise compute the whole map in float64.
    return low + stored.astype(np.float32) * np.float32((high - low) / 255)


def _examine_material(folder: MaterialFolder) -> Examined:
    examined = Examined(folder.path, "maps")
    # What all findings about this material have in common; each of them replaces the rest.
    about = Finding("error", "", str(folder.path), "", material=folder.path.name)
    if missing := missing_maps(folder.path):
        message = missing.removeprefix(f"{folder.path}: ")
        examined.findings.append(replace(about, code="missing-maps", message=message))

    stored_maps: dict[str, Stored] = {}
    for name, path in map_files(folder.path).items():
        if not path.is_file():
            continue
        spec = MAPS[name]
        if spec is ALBEDO:
            oddities = _color_oddities
        else:
            oddities = _image_oddities
        stored = _decode(examined, path, replace(about, path=str(path)), partial(read_map, spec=spec), oddities)
        if stored is not None:
            stored_maps[name] = stored

    # Maps that could be read are judged even if others are missing.
    values = {name: as_values(MAPS[name], stored) for name, stored in stored_maps.items()}
    for level, code, name, message in lint_maps(values):
        path_of_map = str(folder.path / MAPS[name].file_name)
        examined.findings.append(replace(about, level=level, code=code, path=path_of_map, message=message))
    if "albedo" in stored_maps:
        examined.look = look_of(stored_maps["albedo"])
    return examined


def _decode(
    examined: Examined,
    path: Path,
    about: Finding,
    read: Callable[[Path], Stored],
    oddities: Callable[[ImageFacts], Iterable[Oddity]],
) -> Stored | None:
    """Decode one file and note what is wrong or unusual about it; None when it cannot be used."""
    examined.files += 1
    stored = None
    try:
        # The same question as before training, so that both agree about truncated files.
        if is_cut_off(path):
            message = "truncated; restore from the source, or remove what uses it"
            examined.findings.append(replace(about, code="truncated", message=message))
            return None
        # Checksums next: a damaged file can decode to pixels that look like an unusual image.
        verify_image(path)
        facts = describe_image(path)
        for level, code, text in oddities(facts):
            examined.findings.append(replace(about, level=level, code=code, message=text))
        stored = read(path)
        # Only files that decode count for the most frequent size.
        examined.sizes[path.name] = facts.size
    except (Undecodable, OSError) as error:
        examined.findings.append(replace(about, code="undecodable", message=str(error).removeprefix(f"{path}: ")))
    except DataError as error:
        examined.findings.append(replace(about, code="unusable-map", message=str(error).removeprefix(f"{path}: ")))
    return stored


def _view_oddities(facts: ImageFacts) -> Iterator[Oddity]:
    yield from _color_oddities(facts)
    if facts.width != facts.height:
        yield "warning", "not-square", f"is {facts.size} pixels; a view is square, so it is squeezed. Crop it"


def _color_oddities(facts: ImageFacts) -> Iterator[Oddity]:
    yield from _image_oddities(facts)
    if facts.channels == 1:
        yield "info", "grey", "is grey; it is read as three equal channels"


def _image_oddities(facts: ImageFacts) -> Iterator[Oddity]:
    """Report properties of a file that the readers can handle."""
    if facts.bits > 8:
        yield "info", "sixteen-bit", f"has {facts.bits} bits; training reads the nearest 8"
    if facts.alpha:
        yield "info", "alpha", "has transparency, which is not used"
