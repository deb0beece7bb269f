"""The folder that captures are rendered into, and its records about them.

    ROOT/input/synthesis.json    the settings that decide the pixels of all samples
    ROOT/input/captures.json     the light of each sample, and what went wrong in its dirty rendering
    ROOT/input/cameras.json      the cameras of each sample, clean and dirty alike

These records come in addition to the files of every dataset (`layout`).
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from neuropbr_core.data.decoding import is_cut_off
from neuropbr_core.data.images import Stored, write_png
from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.data.layout.paths import (
    CAMERAS_NAME,
    CAPTURES_NAME,
    METADATA_NAME,
    CameraRecord,
    Condition,
    map_files,
    read_cameras,
    read_metadata,
    sample_name,
    view_name,
    write_cameras,
)
from neuropbr_core.data.seeding import DIRT, numpy_generator
from neuropbr_core.errors import DataError
from neuropbr_core.files import replacing, write_json
from neuropbr_core.materials.capture_kinds import CaptureKind
from neuropbr_core.materials.defects import Dirt
from neuropbr_core.reading import read_json

RECORD_NAME = "synthesis.json"
REVISION = 2
"""Revision of the renderer. It grows when the same settings give other pixels."""
T = TypeVar("T")
_GOLDEN = 0.6180339887498949  # its multiples spread most evenly over [0, 1): the golden ratio's fractional part


@dataclass(frozen=True)
class Settings:
    """The settings that decide the pixels of all captures in a folder.

    Attributes:
        views: Views of each sample.
        size: Side of maps, in pixels.
        seed: Seed of cameras, light, exposure and artefacts.
        materials: Fingerprint of each material's files, or the revision of a procedural one's generator, in the order
            in which samples take them.
        view_size: Side of views, in pixels; 0 in records of the first revision.
        kinds: Kinds of capture, in the order in which samples take them; records from before there were kinds have none
            and mean `flash`.
        dirty_fraction: Share of the samples that have a dirty rendering too.
        environments: Fingerprint of each radiance map.
        revision: Revision of the renderer.
        flash: False in records from before there were kinds, of captures that are `no_flash` now.
    """

    views: int
    size: int
    seed: int
    materials: dict[str, str]
    view_size: int = 0
    kinds: tuple[CaptureKind, ...] = ("flash",)
    dirty_fraction: float = 0.0
    environments: dict[str, str] = field(default_factory=dict)
    revision: int = 1
    flash: bool = True

    def dirty(self, index: int) -> bool:
        """Whether a sample has a dirty rendering too.

        Multiples of irrational numbers spread the dirty samples evenly over materials and over each material's
        samples. With more samples or a larger fraction, all samples that were dirty before remain dirty.
        """
        turn, material = divmod(index, len(self.materials))
        start = float(numpy_generator(self.seed, DIRT).random())
        # Two different irrational steps, so that the order of materials does not repeat in the order of samples.
        return (start + material * _GOLDEN + turn * math.sqrt(2)) % 1.0 < self.dirty_fraction

    def kind(self, index: int) -> CaptureKind:
        """The kind of a sample's capture: one kind for as many samples as there are materials, then the next one."""
        return self.kinds[index // len(self.materials) % len(self.kinds)]

    def conditions(self, index: int) -> list[Condition]:
        """List the conditions in which a sample is rendered."""
        if self.dirty(index):
            return ["clean", "dirty"]
        return ["clean"]


@dataclass(frozen=True)
class CaptureRecord:
    """How a sample was captured.

    Attributes:
        environment: File name of the radiance map, or `procedural`.
        turned: Angle by which the environment is turned about the vertical, in degrees, counter-clockwise from above.
        flash: Whether the flash was on.
        kind: The kind of capture.
        ambient: The environment's share of the light in the clean rendering.
        dirt: Faults of the dirty rendering; None when there is none.
        flash_offset: From each lens to its flash (x, y, z), in sides of the tile; None without a flash beside the lens.
    """

    environment: str
    turned: float
    flash: bool
    ambient: float
    dirt: Dirt | None
    kind: CaptureKind = "flash"
    flash_offset: tuple[float, float, float] | None = None


class CaptureFolder:
    """The folder that captures are written to.

    Attributes:
        input: Folder of the views.
        output: Folder of the maps.
        materials: Material of each complete sample.
        cameras: Cameras of each complete sample.
        captures: Light and artefacts of each complete sample.
    """

    def __init__(self, root: Path) -> None:
        """Read the records of samples that were rendered before; the folder need not exist.

        Raises:
            DataError: The folder's JSON files are damaged.
        """
        self.input = root / "input"
        self.output = root / "output"
        self.materials: dict[str, str] = {}
        self.cameras: dict[str, tuple[CameraRecord, ...]] = {}
        self.captures: dict[str, CaptureRecord] = {}
        # A file that is missing means no samples yet; one that is damaged is an error, as it may list thousands.
        if (self.input / METADATA_NAME).exists():
            metadata, problems = read_metadata(self.input / METADATA_NAME)
            raise_problems(problems)
            self.materials = metadata or {}
        if (self.input / CAMERAS_NAME).exists():
            self.cameras = read_cameras(self.input / CAMERAS_NAME)
        # Without settings nothing was rendered, and the file is a photographer's own, which only names kinds.
        if (self.input / RECORD_NAME).exists() and (self.input / CAPTURES_NAME).exists():
            self.captures = decode_record(self.input / CAPTURES_NAME, dict[str, CaptureRecord])

    def settings(self) -> Settings | None:
        """Read the settings of the folder's captures; None when nothing was rendered."""
        path = self.input / RECORD_NAME
        if not path.exists():
            return None
        settings = decode_record(path, Settings)
        # Folders from before there were kinds must not be continued with another light than theirs.
        if not settings.flash:
            settings = replace(settings, kinds=("no_flash",), flash=True)
        return settings

    def foreign(self) -> bool:
        """Whether the folder holds views, or anything else, without a record of how they were rendered."""
        return self.input.exists() and any(self.input.iterdir())

    def missing(self, settings: Settings, samples: Iterable[int]) -> list[int]:
        """List the samples whose views, maps or records are not all there, or whose images are cut off.

        Args:
            settings: The settings of the folder.
            samples: Numbers of the samples that the folder must have.
        """
        # Each material is looked at once, not once for each of its samples.
        sound = set()
        for name in settings.materials:
            if _are_whole(map_files(self.output / name).values()):
                sound.add(name)
        return [index for index in samples if not self._is_complete(index, settings, sound)]

    def add(self, index: int, material: str, cameras: Sequence[CameraRecord], record: CaptureRecord) -> None:
        """Record a sample whose views are written.

        Args:
            index: Number of the sample.
            material: The material that it shows.
            cameras: Cameras of the views, the same for all conditions.
            record: Light and artefacts.
        """
        name = sample_name(index)
        # In memory only: `save` writes all records, which would take too long after each sample.
        self.materials[name] = material
        self.cameras[name] = tuple(cameras)
        self.captures[name] = record

    def save(self) -> None:
        """Write the records of complete samples."""
        # The metadata comes last: it lists the samples, and no listed sample may lack its cameras or its light.
        write_cameras(self.input / CAMERAS_NAME, self.cameras)
        write_json(self.input / CAPTURES_NAME, dict(sorted(self.captures.items())))
        write_json(self.input / METADATA_NAME, dict(sorted(self.materials.items())))

    def start(self, settings: Settings) -> None:
        """Record the settings, before the first capture is rendered with them."""
        write_json(self.input / RECORD_NAME, settings)

    def _is_complete(self, index: int, settings: Settings, sound: Collection[str]) -> bool:
        name = sample_name(index)
        # The records are looked up first: they are in memory, while each file must be opened.
        if not (self.materials.get(name) in sound and name in self.cameras and name in self.captures):
            return False
        files = []
        for condition in settings.conditions(index):
            for view in range(settings.views):
                files.append(self.input / condition / name / view_name(view))
        return _are_whole(files)


def write_views(folder: Path, index: int, views: Mapping[Condition, Sequence[Stored]]) -> None:
    """Write a sample's views. Each folder appears whole or not at all.

    Args:
        folder: Folder of the views of all samples: `input` of a dataset.
        index: Number of the sample.
        views: Images of each condition, uint8 `(3, H, W)`, sRGB-encoded.
    """
    name = sample_name(index)
    for condition, images in views.items():
        with replacing(folder / condition / name) as aside:
            for view, image in enumerate(images):
                write_png(aside / view_name(view), np.moveaxis(image, 0, -1))


def setting_changes(recorded: Settings, wanted: Settings) -> list[str]:
    """Describe how two settings differ, in one phrase for each difference.

    Args:
        recorded: The settings of captures that exist.
        wanted: The settings of a recipe.
    """
    if recorded.revision != wanted.revision:
        # Another renderer gives other pixels for any settings, so the other differences do not matter.
        return [f"revision {recorded.revision} of the renderer there, {wanted.revision} is installed"]
    changes = []
    for name in ("views", "size", "view_size", "seed", "kinds", "dirty_fraction"):
        there = getattr(recorded, name)
        here = getattr(wanted, name)
        if there != here:
            changes.append(f"{name} {_setting_text(there)} there, {_setting_text(here)} wanted")
    for name in ("materials", "environments"):
        there = getattr(recorded, name)
        here = getattr(wanted, name)
        # Materials and radiance maps that were added, removed, or have another content.
        differing = {key for key, _ in there.items() ^ here.items()}
        if differing:
            changes.append(f"other {name} ({', '.join(sorted(differing))})")
    return changes


def _are_whole(files: Iterable[Path]) -> bool:
    """Whether all files exist and are not cut off."""
    return all(path.is_file() and not is_cut_off(path) for path in files)


def _setting_text(value: object) -> str:
    """Format a setting for people, who write lists in recipes."""
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return f"{value}"


def decode_record(path: Path, kind: type[T]) -> T:
    """Read a record of the folder.

    Raises:
        DataError: It is damaged.
    """
    # Records of earlier versions lack newer fields, which then get their defaults.
    return read_json(path, kind, DataError, "restore the file, or render into another folder")
