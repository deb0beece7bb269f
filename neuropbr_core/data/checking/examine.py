"""One folder of a dataset looked at closely: every image decoded, measured and judged.

Made to run in other processes: what goes in and out pickles.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from neuropbr_core.data.checking.lookalikes import Look, look_of
from neuropbr_core.data.images.fit import Stored
from neuropbr_core.data.images.read import ImageFacts, Undecodable, describe_image, read_map, read_view, verify_image
from neuropbr_core.data.layout.findings import Finding
from neuropbr_core.data.layout.scan import map_files, missing_maps
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, MAPS, MapSpec
from neuropbr_core.materials.lint import Level, Values, lint_maps

Oddity = tuple[Level, str, str]
"""Level, code and message."""


@dataclass(frozen=True)
class SampleFolder:
    """A sample to look at.

    Attributes:
        path: Its folder.
        identity: Its name in the dataset, such as `clean/sample_0000`.
        files: Its views.
    """

    path: Path
    identity: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class MaterialFolder:
    """A material to look at; its name is the folder's."""

    path: Path


@dataclass
class Examined:
    """What was seen in a folder.

    Attributes:
        path: The folder.
        kind: `views` or `maps`.
        findings: What is wrong or unusual.
        sizes: Size of each image that opens, `WIDTH×HEIGHT` by file name.
        files: Images looked at.
        look: What a sound material's albedo looks like.
    """

    path: Path
    kind: str
    findings: list[Finding] = field(default_factory=list)
    sizes: dict[str, str] = field(default_factory=dict)
    files: int = 0
    look: Look | None = None


def examine(folder: SampleFolder | MaterialFolder) -> Examined:
    """Decode and judge the images of a sample or a material."""
    return _examine_sample(folder) if isinstance(folder, SampleFolder) else _examine_material(folder)


def as_values(spec: MapSpec, stored: Stored) -> Values:
    """Turn stored integers into values in the map's range; normals keep their stored length, for the lint to judge."""
    low, high = spec.value_range
    return low + stored.astype(np.float32) * np.float32((high - low) / 255)


def _examine_sample(folder: SampleFolder) -> Examined:
    seen = Examined(folder.path, "views")
    about = Finding("error", "", "", "", sample=folder.identity)
    for path in folder.files:
        _decoded(seen, path, replace(about, path=str(path)), read_view, _odd_view)
    return seen


def _examine_material(folder: MaterialFolder) -> Examined:
    seen = Examined(folder.path, "maps")
    about = Finding("error", "", str(folder.path), "", material=folder.path.name)
    if missing := missing_maps(folder.path):
        message = missing.removeprefix(f"{folder.path}: ")
        seen.findings.append(replace(about, code="missing-maps", message=message))
    stored = dict(_maps(seen, folder.path, about))
    values = {name: as_values(MAPS[name], image) for name, image in stored.items()}
    for level, code, name, message in lint_maps(values):
        path = str(folder.path / MAPS[name].file_name)
        seen.findings.append(replace(about, level=level, code=code, path=path, message=message))
    if "albedo" in stored:
        seen.look = look_of(stored["albedo"])
    return seen


def _maps(seen: Examined, folder: Path, about: Finding) -> Iterator[tuple[str, Stored]]:
    """Decode the maps that are there; what cannot be used becomes a finding."""
    for name, path in map_files(folder).items():
        if not path.is_file():
            continue
        spec = MAPS[name]
        odd = _odd_colour if spec is ALBEDO else _odd_image
        stored = _decoded(seen, path, replace(about, path=str(path)), partial(read_map, spec=spec), odd)
        if stored is not None:
            yield name, stored


def _decoded(
    seen: Examined,
    path: Path,
    about: Finding,
    read: Callable[[Path], Stored],
    odd: Callable[[ImageFacts], Iterable[Oddity]],
) -> Stored | None:
    """Decode one file and note what is wrong or unusual about it; None when it cannot be used."""
    seen.files += 1
    stored = None
    try:
        verify_image(path)
        facts = describe_image(path)
        seen.findings += [replace(about, level=level, code=code, message=text) for level, code, text in odd(facts)]
        stored = read(path)
        seen.sizes[path.name] = facts.size
    except Undecodable as error:
        seen.findings.append(replace(about, code="undecodable", message=str(error).removeprefix(f"{path}: ")))
    except DataError as error:
        seen.findings.append(replace(about, code="unusable-map", message=str(error).removeprefix(f"{path}: ")))
    return stored


def _odd_view(facts: ImageFacts) -> Iterator[Oddity]:
    yield from _odd_colour(facts)
    if facts.width != facts.height:
        yield "warning", "not-square", f"is {facts.size} pixels; a view is square, so it is squeezed. Crop it"


def _odd_colour(facts: ImageFacts) -> Iterator[Oddity]:
    yield from _odd_image(facts)
    if facts.channels == 1:
        yield "info", "grey", "is grey; it is read as three equal channels"


def _odd_image(facts: ImageFacts) -> Iterator[Oddity]:
    """What a file is that readers cope with."""
    if facts.bits == 16:
        yield "info", "sixteen-bit", "has 16 bits; training reads the nearest 8"
    if facts.alpha:
        yield "info", "alpha", "has transparency, which is not used"
