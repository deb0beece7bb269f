"""The folder that captures are rendered into, and what it says about them.

    ROOT/input/synthesis.json    what decides the pixels of all samples
    ROOT/input/captures.json     the light of each sample, and what went wrong in its dirty rendering
    ROOT/input/cameras.json      the cameras of each sample, clean and dirty alike

beside the files of every dataset (`layout`).
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from neuropbr_core.data.images.fit import Stored
from neuropbr_core.data.images.read import is_cut_off
from neuropbr_core.data.images.write import write_png
from neuropbr_core.data.layout.cameras_file import CameraRecord, read_cameras, write_cameras
from neuropbr_core.data.layout.metadata import read_metadata
from neuropbr_core.data.layout.paths import CAMERAS_NAME, METADATA_NAME, Condition, map_files, sample_name, view_name
from neuropbr_core.data.layout.scan import raise_problems
from neuropbr_core.data.seeding import DIRT, numpy_generator
from neuropbr_core.errors import DataError
from neuropbr_core.files import replacing, write_json
from neuropbr_core.materials.defects import Dirt

RECORD_NAME = "synthesis.json"
CAPTURES_NAME = "captures.json"
REVISION = 2
"""Grows when the same settings give other pixels."""
T = TypeVar("T")
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Settings:
    """What decides the pixels of a pool; stored beside it.

    Attributes:
        views: Views of each sample.
        size: Side of maps, in pixels.
        seed: Seed of cameras, light, exposure and artefacts.
        materials: Fingerprint of each material's files, or the revision of a procedural one's generator, in the order
            in which samples take them.
        view_size: Side of views, in pixels; 0 in records of the first revision.
        flash: Whether the flash is on.
        dirty_fraction: Share of the samples that have a dirty rendering too.
        environments: Fingerprint of each radiance map.
        revision: Of the renderer.
    """

    views: int
    size: int
    seed: int
    materials: dict[str, str]
    view_size: int = 0
    flash: bool = True
    dirty_fraction: float = 0.0
    environments: dict[str, str] = field(default_factory=dict)
    revision: int = 1

    def dirty(self, index: int) -> bool:
        """Whether a sample has a dirty rendering too.

        Multiples of irrational numbers spread the dirty samples evenly over materials and over each material's
        samples; a larger pool or fraction keeps those that a smaller one has.
        """
        turn, material = divmod(index, len(self.materials))
        start = float(numpy_generator(self.seed, DIRT).random())
        return (start + material * _GOLDEN + turn * math.sqrt(2)) % 1.0 < self.dirty_fraction

    def sources(self, index: int) -> list[Condition]:
        """The folders that hold a sample."""
        if self.dirty(index):
            return ["clean", "dirty"]
        return ["clean"]


@dataclass(frozen=True)
class CaptureRecord:
    """How a sample was captured.

    Attributes:
        environment: File name of the radiance map, or `procedural`.
        turned: How far it is turned about the vertical, in degrees, counter-clockwise from above.
        flash: Whether the flash was on.
        ambient: The environment's share of the light in the clean rendering.
        dirt: What went wrong in the dirty rendering; None without one.
    """

    environment: str
    turned: float
    flash: bool
    ambient: float
    dirt: Dirt | None


class Pool:
    """The folder that captures are written to.

    Attributes:
        input: Folder of the views.
        output: Folder of the maps.
        materials: Material of each complete sample.
        cameras: Cameras of each complete sample.
        captures: Light and artefacts of each complete sample.
    """

    def __init__(self, root: Path) -> None:
        """Read what is there.

        Raises:
            DataError: The folder's JSON files are damaged.
        """
        self.input = root / "input"
        self.output = root / "output"
        self.materials: dict[str, str] = {}
        self.cameras: dict[str, tuple[CameraRecord, ...]] = {}
        self.captures: dict[str, CaptureRecord] = {}
        if (self.input / METADATA_NAME).exists():
            metadata, problems = read_metadata(self.input / METADATA_NAME)
            raise_problems(problems)
            self.materials = metadata or {}
        if (self.input / CAMERAS_NAME).exists():
            self.cameras = read_cameras(self.input / CAMERAS_NAME)
        if (self.input / CAPTURES_NAME).exists():
            self.captures = _decode(self.input / CAPTURES_NAME, dict[str, CaptureRecord])

    def settings(self) -> Settings | None:
        """What the pool was rendered with; None when nothing was."""
        path = self.input / RECORD_NAME
        if path.exists():
            return _decode(path, Settings)
        return None

    def foreign(self) -> bool:
        """Whether it holds samples although nothing says how they were rendered."""
        return bool(self.materials) or any((self.input / source).exists() for source in ("clean", "dirty"))

    def missing(self, settings: Settings, samples: int) -> list[int]:
        """Samples whose views, maps or records are not all there, or whose images are cut off."""
        sound = set()
        for name in settings.materials:
            if _whole(map_files(self.output / name).values()):
                sound.add(name)
        return [index for index in range(samples) if not self._complete(index, settings, sound)]

    def add(
        self,
        index: int,
        material: str,
        views: Mapping[Condition, Sequence[Stored]],
        cameras: Sequence[CameraRecord],
        record: CaptureRecord,
    ) -> None:
        """Write a sample's views; each folder appears whole."""
        name = sample_name(index)
        for source, images in views.items():
            with replacing(self.input / source / name) as aside:
                for view, image in enumerate(images):
                    write_png(aside / view_name(view), np.moveaxis(image, 0, -1))
        self.materials[name] = material
        self.cameras[name] = tuple(cameras)
        self.captures[name] = record

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Write the records on leaving, also after an error or Ctrl-C."""
        try:
            yield
        finally:
            self.save()

    def save(self) -> None:
        """Write the records of complete samples; metadata last, so that no listed sample lacks the others."""
        write_cameras(self.input / CAMERAS_NAME, self.cameras)
        write_json(self.input / CAPTURES_NAME, dict(sorted(self.captures.items())))
        write_json(self.input / METADATA_NAME, dict(sorted(self.materials.items())))

    def start(self, settings: Settings) -> None:
        """Say what the pool is about to be rendered with."""
        write_json(self.input / RECORD_NAME, settings)

    def _complete(self, index: int, settings: Settings, sound: Collection[str]) -> bool:
        name = sample_name(index)
        if not (self.materials.get(name) in sound and name in self.cameras and name in self.captures):
            return False
        folders = []
        for source in settings.sources(index):
            folders.append(self.input / source / name)
        return _whole(folder / view_name(view) for folder in folders for view in range(settings.views))


def setting_changes(found: Settings, wanted: Settings) -> list[str]:
    """Say how two settings differ, one phrase each."""
    if found.revision != wanted.revision:
        return [f"revision {found.revision} of the renderer there, {wanted.revision} is installed"]
    changes = [
        f"{name} {_show(getattr(found, name))} there, {_show(getattr(wanted, name))} wanted"
        for name in ("views", "size", "view_size", "seed", "flash", "dirty_fraction")
        if getattr(found, name) != getattr(wanted, name)
    ]
    for name in ("materials", "environments"):
        there = getattr(found, name)
        here = getattr(wanted, name)
        if differing := {key for key, _ in there.items() ^ here.items()}:
            changes.append(f"other {name} ({', '.join(sorted(differing))})")
    return changes


def _whole(files: Iterable[Path]) -> bool:
    """Whether files are there and not cut off."""
    return all(path.is_file() and not is_cut_off(path) for path in files)


def _show(value: object) -> str:
    if isinstance(value, bool):
        return {True: "on", False: "off"}[value]
    return f"{value}"


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path}: {error}; remove the folder and render again") from error
