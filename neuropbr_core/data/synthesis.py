"""Captures rendered from material folders, in the dataset layout.

Every sample shows one whole tile of a material, the one that `output/<material>` holds: variety comes from cameras,
light and, in training, from windows and turns. Sample i shows material i mod n and draws from (seed, i) alone, so a
pool can be continued after an interruption, or grown, and equals one rendered in a single go.
"""

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from neuropbr_core.data.cameras_file import CameraRecord, read_cameras, record_camera, write_cameras
from neuropbr_core.data.fingerprint import fingerprint_files
from neuropbr_core.data.images import Stored, read_map, verify_image, write_map, write_png
from neuropbr_core.data.layout import (
    CAMERAS_NAME,
    METADATA_NAME,
    map_files,
    missing_maps,
    raise_problems,
    read_metadata,
    sample_name,
    view_name,
)
from neuropbr_core.data.procedural import ProceduralMaterial, procedural_materials
from neuropbr_core.data.progress import Progress, silent
from neuropbr_core.data.seeding import CAPTURE, torch_generator
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_bytes
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.capture import render_capture
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.shipped import resolve

RECORD_NAME = "synthesis.json"
_SAVE_EVERY = 16  # samples between two writes of the JSON files; at most so many are rendered again after a crash


@dataclass(frozen=True)
class Settings:
    """What decides the pixels of a pool; stored beside it.

    Attributes:
        views: Views of each sample.
        size: Side of views and maps, in pixels.
        seed: Seed of cameras, light and exposure.
        materials: Fingerprint of each material's files, or the revision of a procedural one's generator, in the order
            in which samples take them.
    """

    views: int
    size: int
    seed: int
    materials: dict[str, str]


@dataclass(frozen=True)
class SynthesisReport:
    """How many samples a call rendered, and how many were there before."""

    rendered: int
    kept: int


class Pool:
    """The folder that captures are written to.

    Attributes:
        input: Folder of the views.
        output: Folder of the maps.
        materials: Material of each complete sample.
        cameras: Cameras of each complete sample.
    """

    def __init__(self, root: Path) -> None:
        """Read what is there.

        Raises:
            DataError: The folder's JSON files are damaged.
        """
        self.input, self.output = root / "input", root / "output"
        self.materials: dict[str, str] = {}
        self.cameras: dict[str, tuple[CameraRecord, ...]] = {}
        if (self.input / METADATA_NAME).exists():
            metadata, problems = read_metadata(self.input / METADATA_NAME)
            raise_problems(problems)
            self.materials = metadata or {}
        if (self.input / CAMERAS_NAME).exists():
            self.cameras = read_cameras(self.input / CAMERAS_NAME)

    def settings(self) -> Settings | None:
        """What the pool was rendered with; None when nothing was."""
        path = self.input / RECORD_NAME
        try:
            return msgspec.json.decode(path.read_bytes(), type=Settings)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"{path}: {error}; remove the folder and render again") from error

    def complete(self, index: int, views: int) -> bool:
        """Whether a sample's images and records are all there."""
        name = sample_name(index)
        folder = self.input / "clean" / name
        recorded = name in self.materials and name in self.cameras
        return recorded and all((folder / view_name(view)).is_file() for view in range(views))

    def add(self, index: int, material: str, views: Sequence[Stored], cameras: Sequence[CameraRecord]) -> None:
        """Write a sample's views; the folder appears whole."""
        name = sample_name(index)
        folder = self.input / "clean" / name
        aside = folder.with_name(f".{name}.partial")
        for view, image in enumerate(views):
            write_png(aside / view_name(view), np.moveaxis(image, 0, -1))
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
        self.materials[name], self.cameras[name] = material, tuple(cameras)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Write the records on leaving, also after an error or Ctrl-C."""
        try:
            yield
        finally:
            self.save()

    def save(self) -> None:
        """Write the records of complete samples; cameras first, so that no listed sample lacks them."""
        write_cameras(self.input / CAMERAS_NAME, self.cameras)
        _write_json(self.input / METADATA_NAME, dict(sorted(self.materials.items())))


def synthesize(
    plan: Synthesize, out: Path, *, views: int = 3, resume: bool = False, progress: Progress = silent
) -> SynthesisReport:
    """Render captures of materials into a dataset folder.

    Args:
        plan: Materials, number of samples, size and seed.
        out: Dataset folder; `input/` and `output/` are written below it.
        views: Views of each sample.
        resume: Keep the complete samples of an earlier call with the same settings, instead of refusing.
        progress: Shows how far it is.

    Returns:
        What was rendered and what was kept.

    Raises:
        DataError: Materials are missing or damaged, all of them at once; `out` holds something else already.
    """
    sources = find_sources(plan)
    settings = plan_settings(plan, views)
    pool = Pool(out)
    _require_continuable(pool, settings, resume)
    missing = [index for index in range(plan.samples) if not pool.complete(index, views)]
    if missing:
        _require_sound([source for source in sources.values() if isinstance(source, Path)])
        _write_json(pool.input / RECORD_NAME, settings)
        with pool.saving():
            _render(pool, sources, settings, missing, progress)
    return SynthesisReport(len(missing), plan.samples - len(missing))


def find_materials(folder: Path) -> dict[str, Path]:
    """List the material folders below a folder, by name.

    Raises:
        DataError: There are none, or some lack maps; all of these at once.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that holds the material folders")
    found = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    if not found:
        raise DataError(f"{folder}: holds no material folders; each holds the four maps of one material")
    raise_problems([missing for path in found.values() if (missing := missing_maps(path))])
    return found


def find_sources(plan: Synthesize) -> dict[str, Path | ProceduralMaterial]:
    """List what a plan renders, by name: material folders, then procedural materials.

    Raises:
        DataError: Folders are missing or incomplete, or one is called as a procedural material is.
    """
    folder = resolve(plan.materials)
    found = find_materials(folder)
    made = {material.name: material for material in procedural_materials(plan.procedural, plan.seed)}
    if both := sorted(found.keys() & made.keys()):
        raise DataError(
            f"{folder}: holds {', '.join(both)}, which `procedural` {plan.procedural} makes too; "
            "rename or remove these folders, or set `procedural` to 0"
        )
    return {**found, **made}


def plan_settings(plan: Synthesize, views: int) -> Settings:
    """What a plan would record: its sizes and seed, and a fingerprint of each material.

    Raises:
        DataError: The materials are missing or incomplete.
    """
    fingerprints = {
        name: fingerprint_files(map_files(source).values()) if isinstance(source, Path) else source.fingerprint
        for name, source in find_sources(plan).items()
    }
    return Settings(views, plan.size, plan.seed, fingerprints)


def setting_changes(found: Settings, wanted: Settings) -> list[str]:
    """Say how two settings differ, one phrase each."""
    changes = [
        f"{name} {getattr(found, name)} there, {getattr(wanted, name)} wanted"
        for name in ("views", "size", "seed")
        if getattr(found, name) != getattr(wanted, name)
    ]
    differing = {name for name, _ in found.materials.items() ^ wanted.materials.items()}
    if differing:
        changes.append(f"other materials ({', '.join(sorted(differing))})")
    return changes


def _require_continuable(pool: Pool, settings: Settings, resume: bool) -> None:
    found = pool.settings()
    if found is None:
        if pool.materials or (pool.input / "clean").exists():
            raise DataError(f"{pool.input}: holds a dataset that was not rendered here; choose another folder")
        return
    if not resume:
        raise DataError(f"{pool.input}: holds rendered samples; continue with --resume, or choose another folder")
    if changes := setting_changes(found, settings):
        raise DataError(
            f"{pool.input}: was rendered with other settings: {'; '.join(changes)}. "
            "Choose another folder, or remove this one"
        )


def _require_sound(folders: Sequence[Path]) -> None:
    """Verify all material files before the first capture, so that a long job does not die of the last one."""
    problems = []
    for path in (path for folder in folders for path in map_files(folder).values()):
        try:
            verify_image(path)
        except DataError as error:
            problems.append(str(error))
    raise_problems(problems)


def _render(
    pool: Pool,
    sources: Mapping[str, Path | ProceduralMaterial],
    settings: Settings,
    missing: Sequence[int],
    progress: Progress,
) -> None:
    """Render samples material by material, so that each material is decoded once."""
    names = list(sources)
    ordered = sorted(missing, key=lambda index: (index % len(names), index))
    tracked = progress(ordered, len(ordered), "rendering captures")
    for position, group in itertools.groupby(tracked, key=lambda index: index % len(names)):
        material = names[position]
        stored = _copy_maps(sources[material], pool.output / material, settings.size)
        for index in group:
            views, cameras = _capture(stored, index, settings)
            pool.add(index, material, views, cameras)
            if len(pool.materials) % _SAVE_EVERY == 0:
                pool.save()


def _copy_maps(source: Path | ProceduralMaterial, target: Path, size: int) -> dict[str, Stored]:
    """Read or make a material at `size` and write it as the truth."""
    if isinstance(source, ProceduralMaterial):
        stored = source.stored(size)
    else:
        stored = {name: read_map(path, MAPS[name], size) for name, path in map_files(source).items()}
    for name, values in stored.items():
        write_map(target, MAPS[name], values)
    return stored


def _capture(
    stored: Mapping[str, Stored], index: int, settings: Settings
) -> tuple[Sequence[Stored], list[CameraRecord]]:
    maps = {name: decode_map(MAPS[name], torch.from_numpy(values)[None]) for name, values in stored.items()}
    generator = torch_generator(settings.seed, CAPTURE, index)
    capture = render_capture(maps, views=settings.views, size=settings.size, generator=generator)
    return list(capture.views.numpy()), [record_camera(*camera) for camera in capture.cameras]


def _write_json(path: Path, value: object) -> None:
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
