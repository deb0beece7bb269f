"""Captures rendered from material folders, in the dataset layout.

Every sample shows one whole tile of a material, the one that `output/<material>` holds: variety comes from cameras,
light and, in training, from windows and turns. Sample i shows material i mod n and draws from (seed, i) alone, so a
pool can be continued after an interruption, or grown, and equals one rendered in a single go.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from neuropbr_core.data.images.fit import Stored, store_map
from neuropbr_core.data.images.read import describe_image, read_map, verify_image
from neuropbr_core.data.images.write import compress_jpeg, write_map
from neuropbr_core.data.layout.cameras_file import CameraRecord, record_camera
from neuropbr_core.data.layout.paths import Condition, map_files, missing_maps
from neuropbr_core.data.layout.scan import raise_problems
from neuropbr_core.data.pack.digest import fingerprint_files
from neuropbr_core.data.seeding import CAPTURE, DIRT, torch_generator
from neuropbr_core.data.synthesis.capture_folder import REVISION, CaptureRecord, Pool, Settings, setting_changes
from neuropbr_core.data.synthesis.environments import find_environments, read_environments
from neuropbr_core.data.synthesis.procedural import ProceduralMaterial, procedural_materials
from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, MAPS
from neuropbr_core.materials.capture import Scene, draw_scene, surface_for, take_clean
from neuropbr_core.materials.defects import Dirt
from neuropbr_core.materials.dirt import draw_dirt, take_dirty
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.environments import TURNS, Environment
from neuropbr_core.materials.surface import Surface
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.reporting import track
from neuropbr_core.shipped import resolve

_SAVE_SECONDS = 10.0  # between two writes of the JSON files: what a crash can cost, and a sample


class _Studio(NamedTuple):
    """What all captures of a call share: settings, radiance maps, and the device that renders."""

    settings: Settings
    environments: Mapping[str, Environment]
    device: torch.device


@dataclass(frozen=True)
class SynthesisReport:
    """How many samples a call rendered, how many of these dirty too, and how many were there before."""

    rendered: int
    dirty: int
    kept: int


def synthesize(
    plan: Synthesize,
    out: Path,
    *,
    views: int = 3,
    resume: bool = False,
    device: str = "cpu",
) -> SynthesisReport:
    """Render captures of materials into a dataset folder.

    Args:
        plan: Materials, light, number of samples, sizes and seed.
        out: Dataset folder; `input/` and `output/` are written below it.
        views: Views of each sample.
        resume: Keep the complete samples of an earlier call with the same settings, instead of refusing.
        device: What renders: `auto`, `cpu`, `cuda` or `mps`. Pixels are the same up to rounding.

    Returns:
        What was rendered and what was kept.

    Raises:
        DataError: Materials or radiance maps are missing or damaged, all of them at once; `out` holds something else
            already.
        DeviceError: The device is not there.
    """
    sources = find_sources(plan)
    settings = plan_settings(plan, views)
    pool = Pool(out)
    _require_continuable(pool, settings, resume)
    missing = pool.missing(settings, plan.samples)
    if missing:
        chosen = choose_device(device)
        _require_sound([source for source in sources.values() if isinstance(source, Path)])
        studio = _Studio(settings, read_environments(_environment_files(plan)), chosen)
        pool.start(settings)
        with pool.saving():
            _render(pool, sources, studio, missing)
    dirty = sum(settings.dirty(index) for index in missing)
    return SynthesisReport(len(missing), dirty, plan.samples - len(missing))


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
    made = {}
    for material in procedural_materials(plan.procedural, plan.seed):
        made[material.name] = material
    if both := sorted(found.keys() & made.keys()):
        raise DataError(
            f"{folder}: holds {', '.join(both)}, which `procedural` {plan.procedural} makes too; "
            "rename or remove these folders, or set `procedural` to 0"
        )
    return {**found, **made}


def plan_settings(plan: Synthesize, views: int) -> Settings:
    """What a plan would record: its sizes, seed and light, and a fingerprint of each file that it reads.

    Raises:
        DataError: The materials or radiance maps are missing or incomplete.
    """
    fingerprints = {
        name: fingerprint_files(map_files(source).values()) if isinstance(source, Path) else source.fingerprint
        for name, source in find_sources(plan).items()
    }
    return Settings(
        views=views,
        size=plan.size,
        seed=plan.seed,
        materials=fingerprints,
        view_size=plan.view_size or plan.size,
        flash=plan.flash,
        dirty_fraction=plan.dirty_fraction,
        environments={name: fingerprint_files([path]) for name, path in _environment_files(plan).items()},
        revision=REVISION,
    )


def _environment_files(plan: Synthesize) -> dict[str, Path]:
    if plan.environments is None:
        return {}
    return find_environments(resolve(plan.environments))


def _require_continuable(pool: Pool, settings: Settings, resume: bool) -> None:
    found = pool.settings()
    if found is None:
        if pool.foreign():
            raise DataError(f"{pool.input}: holds a dataset that was not rendered here; choose another folder")
        if taken := sorted(name for name in settings.materials if (pool.output / name).exists()):
            more = ""
            if len(taken) > 1:
                more = f" and {len(taken) - 1} more"
            raise DataError(
                f"{pool.output}: holds {taken[0]}{more}, which rendering would replace by maps of {settings.size} "
                "pixels; choose another folder to render into"
            )
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
    studio: _Studio,
    missing: Sequence[int],
) -> None:
    """Render samples material by material, so that each material is decoded once."""
    names = list(sources)
    ordered = sorted(missing, key=lambda index: (index % len(names), index))
    saved = time.monotonic()
    tracked = track(ordered, len(ordered), "rendering captures")
    for position, group in itertools.groupby(tracked, key=lambda index: index % len(names)):
        material = names[position]
        surface = _surface(_copy_maps(sources[material], pool.output / material, studio.settings), studio)
        for index in group:
            pool.add(index, material, *_capture(surface, index, studio))
            if time.monotonic() - saved > _SAVE_SECONDS:
                pool.save()
                saved = time.monotonic()


def _copy_maps(source: Path | ProceduralMaterial, target: Path, settings: Settings) -> dict[str, Stored]:
    """Read or make a material, write it at `size` as the truth, and return what is to be photographed.

    Photos larger than the truth show the detail that the truth has averaged away, as far as the source has any.
    """
    size = settings.size
    view_size = settings.view_size
    if isinstance(source, ProceduralMaterial):
        fine = source.stored(max(size, view_size))
        truth = {name: store_map(np.moveaxis(values, 0, -1), MAPS[name], size) for name, values in fine.items()}
    else:
        files = map_files(source)
        truth = {name: read_map(path, MAPS[name], size) for name, path in files.items()}
        side = min(view_size, describe_image(files[ALBEDO.name]).width)
        if side > size:
            fine = {name: read_map(path, MAPS[name], side) for name, path in files.items()}
        else:
            fine = truth
    for name, values in truth.items():
        write_map(target, MAPS[name], values)
    return fine


def _surface(stored: Mapping[str, Stored], studio: _Studio) -> Surface:
    maps = {}
    for name, values in stored.items():
        maps[name] = decode_map(MAPS[name], torch.from_numpy(values)[None].to(studio.device))
    return surface_for(maps, studio.settings.view_size)


def _capture(
    surface: Surface, index: int, studio: _Studio
) -> tuple[dict[Condition, Sequence[Stored]], list[CameraRecord], CaptureRecord]:
    """Photograph a surface once, and where the settings ask for it a second time, carelessly."""
    settings = studio.settings
    generator = torch_generator(settings.seed, CAPTURE, index)
    scene = draw_scene(generator, settings.views, flash=settings.flash, environments=studio.environments)
    clean = take_clean(surface, scene, settings.view_size, generator)
    views: dict[Condition, Sequence[Stored]] = {"clean": list(clean.cpu().numpy())}
    dirt = None
    if settings.dirty(index):
        dirt, views["dirty"] = _dirty(surface, scene, settings.view_size, torch_generator(settings.seed, DIRT, index))
    turned = 360 * scene.step / TURNS
    record = CaptureRecord(scene.surroundings, turned, settings.flash, scene.ambient, dirt)
    return views, [record_camera(*camera) for camera in scene.cameras], record


def _dirty(surface: Surface, scene: Scene, size: int, generator: torch.Generator) -> tuple[Dirt, list[Stored]]:
    dirt = draw_dirt(generator, scene)
    photos = take_dirty(surface, scene, dirt, size, generator).cpu().numpy()
    return dirt, [compress_jpeg(photo, quality) for photo, quality in zip(photos, dirt.jpeg, strict=True)]
