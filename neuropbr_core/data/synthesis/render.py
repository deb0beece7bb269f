"""Renders captures of materials into the dataset layout.

Every sample shows one whole tile of a material, the one that `output/<material>` holds. Variety comes from cameras,
light and, in training, from crops and turns. With n materials, sample i shows material i mod n and draws from (seed, i)
alone; the kind of capture changes after every n samples. A folder that is continued after an interruption, or grown,
therefore equals one that was rendered in a single call.
"""

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from neuropbr_core.data.decoding import describe_image, verify_image
from neuropbr_core.data.images import Stored, compress_jpeg, read_map, store_map, write_map
from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.data.layout.paths import CameraRecord, Condition, map_files, missing_maps, record_camera
from neuropbr_core.data.pack.digest import fingerprint_files
from neuropbr_core.data.seeding import CAPTURE, DIRT, torch_generator
from neuropbr_core.data.synthesis.capture_folder import (
    REVISION,
    CaptureFolder,
    CaptureRecord,
    Settings,
    setting_changes,
)
from neuropbr_core.data.synthesis.environments import find_environments, read_environments
from neuropbr_core.data.synthesis.procedural import ProceduralMaterial, procedural_materials
from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, MAPS
from neuropbr_core.materials.capture import Exposure, draw_scene, surface_for, take_clean
from neuropbr_core.materials.dirt import draw_dirt, take_dirty
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.environments import TURNS, Environment
from neuropbr_core.materials.surface import Surface
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.reporting import track
from neuropbr_core.shipped import resolve

# Seconds between two writes of the records. A crash costs this much work and one sample; writing after each sample
# would take longer than rendering when there are thousands.
_SAVE_SECONDS = 10.0

Origin = Path | ProceduralMaterial
"""Where a material's maps come from: its folder, or a generator."""


class _Studio(NamedTuple):
    """The common part of all captures of a call: settings, radiance maps, and the device that renders."""

    settings: Settings
    environments: Mapping[str, Environment]
    device: torch.device


@dataclass(frozen=True)
class SynthesisReport:
    """The outcome of rendering.

    Attributes:
        rendered: Number of samples rendered.
        dirty: Number of these that have a dirty rendering too.
        kept: Number of samples that existed before.
    """

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
        resume: Whether to keep the complete samples of an earlier call with the same settings, instead of refusing.
        device: Device that renders: `auto`, `cpu`, `cuda` or `mps`. Pixels are the same up to rounding.

    Returns:
        Counts of the samples that were rendered and kept.

    Raises:
        DataError: Materials or radiance maps are missing or damaged (the message lists all of them), or `out` holds
            something else already.
        DeviceError: The device is not available.
    """
    origins = find_materials_of(plan)
    settings = plan_settings(plan, views)
    capture_folder = CaptureFolder(out)
    _require_continuable(capture_folder, settings, resume)
    missing = capture_folder.missing(settings, plan.samples)
    if missing:
        # Everything that can fail early fails before the folder changes: the device, the materials, the radiance maps.
        chosen = choose_device(device)
        _require_sound(origins.values())
        studio = _Studio(settings, read_environments(_environment_files(plan)), chosen)
        # The settings come before the first capture, so that an interrupted folder can be continued.
        capture_folder.start(settings)
        with capture_folder.saving():
            _render(capture_folder, origins, studio, missing)
    dirty = sum(settings.dirty(index) for index in missing)
    return SynthesisReport(len(missing), dirty, plan.samples - len(missing))


def find_materials(folder: Path) -> dict[str, Path]:
    """List the material folders below a folder, by name.

    Raises:
        DataError: There are none, or some lack maps. The message lists all that do.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that holds the material folders")
    folders = {}
    problems = []
    for path in sorted(folder.iterdir()):  # sorted: sample i shows the material at place i mod n
        if path.is_dir() and not path.name.startswith("."):
            folders[path.name] = path
            if missing := missing_maps(path):
                problems.append(missing)
    if not folders:
        raise DataError(f"{folder}: holds no material folders; each holds the four maps of one material")
    raise_problems(problems)
    return folders


def find_materials_of(plan: Synthesize) -> dict[str, Origin]:
    """List the materials that a plan renders, by name: first material folders, then procedural materials.

    Raises:
        DataError: Folders are missing or incomplete, or one has the name of a procedural material.
    """
    folder = resolve(plan.materials)
    folders = find_materials(folder)
    generators = {}
    for material in procedural_materials(plan.procedural, plan.seed):
        generators[material.name] = material
    if both := sorted(folders.keys() & generators.keys()):
        raise DataError(
            f"{folder}: holds {', '.join(both)}, which `procedural` {plan.procedural} makes too; "
            "rename or remove these folders, or set `procedural` to 0"
        )
    return {**folders, **generators}


def plan_settings(plan: Synthesize, views: int) -> Settings:
    """Return the settings that a plan would record: sizes, seed, light, and a fingerprint of each file that it reads.

    Args:
        plan: The plan.
        views: Views of each sample.

    Raises:
        DataError: The materials or radiance maps are missing or incomplete.
    """
    materials = {}
    for name, origin in find_materials_of(plan).items():
        if isinstance(origin, Path):
            materials[name] = fingerprint_files(map_files(origin).values())
        else:
            materials[name] = origin.fingerprint
    environments = {}
    for name, path in _environment_files(plan).items():
        environments[name] = fingerprint_files([path])
    return Settings(
        views=views,
        size=plan.size,
        seed=plan.seed,
        materials=materials,
        view_size=plan.view_size or plan.size,
        kinds=plan.kinds,
        dirty_fraction=plan.dirty_fraction,
        environments=environments,
        revision=REVISION,
    )


def _environment_files(plan: Synthesize) -> dict[str, Path]:
    if plan.environments is None:
        return {}
    return find_environments(resolve(plan.environments))


def _require_continuable(capture_folder: CaptureFolder, settings: Settings, resume: bool) -> None:
    """Refuse a folder with other content than captures of these settings."""
    recorded = capture_folder.settings()
    if recorded is None:
        if capture_folder.foreign():
            raise DataError(
                f"{capture_folder.input}: holds a dataset that was not rendered here; choose another folder"
            )
        # Somebody may render into the folder of the materials themselves, whose maps would be replaced by smaller ones.
        taken = []
        for name in sorted(settings.materials):
            if (capture_folder.output / name).exists():
                taken.append(name)
        if taken:
            more = ""
            if len(taken) > 1:
                more = f" and {len(taken) - 1} more"
            raise DataError(
                f"{capture_folder.output}: holds {taken[0]}{more}, which rendering would replace by maps of "
                f"{settings.size} pixels; choose another folder to render into"
            )
        return
    if not resume:
        raise DataError(
            f"{capture_folder.input}: holds rendered samples; continue with --resume, or choose another folder"
        )
    if changes := setting_changes(recorded, settings):
        raise DataError(
            f"{capture_folder.input}: was rendered with other settings: {'; '.join(changes)}. "
            "Choose another folder, or remove this one"
        )


def _require_sound(origins: Iterable[Origin]) -> None:
    """Verify all material files before the first capture, so that a long job does not fail at the last material."""
    problems = []
    for origin in origins:
        if not isinstance(origin, Path):
            continue
        for path in map_files(origin).values():
            try:
                verify_image(path)
            except DataError as error:
                problems.append(str(error))
    raise_problems(problems)


def _render(
    capture_folder: CaptureFolder,
    origins: Mapping[str, Origin],
    studio: _Studio,
    missing: Sequence[int],
) -> None:
    """Render the missing samples."""
    settings = studio.settings
    names = list(origins)
    # Material by material, so that each is decoded once. The order changes no pixel: a sample draws from its own key.
    ordered = sorted(missing, key=lambda index: (index % len(names), index))
    saved = time.monotonic()
    tracked = track(ordered, len(ordered), "rendering captures")
    for position, indices in itertools.groupby(tracked, key=lambda index: index % len(names)):
        material = names[position]
        # Converted once for each material; the fine maps are on the device until the next material replaces them.
        maps = {}
        for name, values in _copy_maps(origins[material], capture_folder.output / material, settings).items():
            maps[name] = decode_map(MAPS[name], torch.from_numpy(values)[None].to(studio.device))
        surface = surface_for(maps, settings.view_size)
        for index in indices:
            views, cameras, record = _take_capture(surface, index, studio)
            capture_folder.add(index, material, views, cameras, record)
            if time.monotonic() - saved > _SAVE_SECONDS:
                capture_folder.save()
                saved = time.monotonic()


def _copy_maps(origin: Origin, target: Path, settings: Settings) -> dict[str, Stored]:
    """Read or make a material, write its maps at `size` as the truth, and return the maps to photograph.

    Photos larger than the true maps show detail that these have averaged away, as far as the origin has it.
    """
    size = settings.size
    view_size = settings.view_size
    truth = {}
    if isinstance(origin, ProceduralMaterial):
        # A generator has detail at any size, so its maps are made as large as anybody needs them.
        fine = origin.stored(max(size, view_size))
        for name, values in fine.items():
            truth[name] = store_map(np.moveaxis(values, 0, -1), MAPS[name], size)
    else:
        files = map_files(origin)
        for name, path in files.items():
            truth[name] = read_map(path, MAPS[name], size)
        fine = truth
        # Enlarging files beyond their own size would add no detail, and cost time and memory.
        side = min(view_size, describe_image(files[ALBEDO.name]).width)
        if side > size:
            fine = {}
            for name, path in files.items():
                fine[name] = read_map(path, MAPS[name], side)
    for name, values in truth.items():
        write_map(target, MAPS[name], values)
    return fine


def _take_capture(
    surface: Surface, index: int, studio: _Studio
) -> tuple[dict[Condition, Sequence[Stored]], list[CameraRecord], CaptureRecord]:
    """Photograph a surface, and a second time with faults if the settings ask for a dirty rendering."""
    settings = studio.settings
    # Scene and noise are drawn one after the other from one generator, so their order decides the pixels.
    generator = torch_generator(settings.seed, CAPTURE, index)
    kind = settings.kind(index)
    scene = draw_scene(generator, settings.views, kind=kind, environments=studio.environments)
    exposure: Exposure = "grey_card"
    if kind == "auto":
        exposure = "auto"
    clean = take_clean(surface, scene, settings.view_size, generator, exposure)
    views: dict[Condition, Sequence[Stored]] = {"clean": list(clean.cpu().numpy())}
    dirt = None
    if settings.dirty(index):
        # A generator of its own: the clean photos are the same whether or not there are dirty ones.
        generator = torch_generator(settings.seed, DIRT, index)
        dirt = draw_dirt(generator, scene)
        photos = take_dirty(surface, scene, dirt, settings.view_size, generator, exposure).cpu().numpy()
        compressed = []
        for photo, quality in zip(photos, dirt.jpeg, strict=True):
            compressed.append(compress_jpeg(photo, quality))
        views["dirty"] = compressed
    turned = 360 * scene.step / TURNS
    flash_offset = None
    if scene.flash_offset is not None:
        x, y, z = scene.flash_offset.tolist()
        flash_offset = (x, y, z)
    record = CaptureRecord(scene.surroundings, turned, kind != "no_flash", scene.ambient, dirt, kind, flash_offset)
    return views, [record_camera(*camera) for camera in scene.cameras], record
