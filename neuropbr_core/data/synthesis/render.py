"""Renders captures of materials into the dataset layout.

Every sample shows one whole tile of a material, the one that `output/<material>` holds. Variety comes from cameras,
light and, in training, from crops and turns. With n materials, sample i shows material i mod n and draws from (seed, i)
alone; the kind of capture changes after every n samples. A folder that is continued after an interruption, or grown,
therefore equals one that was rendered in a single call.
"""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from neuropbr_core.data.decoding import describe_image, verify_image
from neuropbr_core.data.images import Stored, compress_jpeg, read_map, store_map, write_map
from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.data.layout.paths import (
    CameraRecord,
    Condition,
    map_files,
    missing_maps,
    record_camera,
    sample_name,
)
from neuropbr_core.data.pack.digest import fingerprint_files
from neuropbr_core.data.seeding import CAPTURE, DIRT, torch_generator
from neuropbr_core.data.synthesis.capture_folder import (
    REVISION,
    CaptureFolder,
    CaptureRecord,
    Settings,
    setting_changes,
    write_views,
)
from neuropbr_core.data.synthesis.environments import find_environments, read_environments
from neuropbr_core.data.synthesis.parts import Part, is_merged, record_part, refuse_parts, require_part
from neuropbr_core.data.synthesis.procedural import ProceduralMaterial, procedural_materials
from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DataError
from neuropbr_core.lock import FolderLock
from neuropbr_core.maps import ALBEDO, MAPS
from neuropbr_core.materials.capture import Exposure, draw_scene, surface_for, take_clean
from neuropbr_core.materials.dirt import draw_dirt, take_dirty
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.environments import TURNS, Environment
from neuropbr_core.materials.surface import Surface
from neuropbr_core.parallel import cores, stream_jobs
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.reporting import reporter, track
from neuropbr_core.shipped import resolve

# Seconds between two writes of the records. A crash costs this much work and one sample; writing after each sample
# would take longer than rendering when there are thousands.
_SAVE_SECONDS = 10.0

_GROUPS = 4  # groups of samples for each process

Origin = Path | ProceduralMaterial
"""Where a material's maps come from: its folder, or a generator."""


class _Group(NamedTuple):
    """Samples of one material, which one process renders."""

    material: str
    indices: tuple[int, ...]

    def __str__(self) -> str:
        """How errors name it."""
        return f"material {self.material}, {sample_name(self.indices[0])} to {sample_name(self.indices[-1])}"


class _Taken(NamedTuple):
    """A sample whose views are written, with what is to be recorded about it."""

    sample: int
    material: str
    cameras: list[CameraRecord]
    record: CaptureRecord


@dataclass
class _Studio:
    """Renders groups of samples: what all captures of a call share. Each process has one of its own.

    Attributes:
        input: Folder of the views.
        output: Folder of the maps.
        origins: Where each material comes from.
        settings: The settings of the captures.
        device: The device that renders.
        environment_files: Radiance maps by file name.
        threads: Threads for PyTorch; None leaves them as they are.
    """

    input: Path
    output: Path
    origins: Mapping[str, Origin]
    settings: Settings
    device: torch.device
    environment_files: dict[str, Path] = field(default_factory=dict)
    threads: int | None = None

    @cached_property
    def environments(self) -> Mapping[str, Environment]:
        """The radiance maps, read on first use."""
        return read_environments(self.environment_files)

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets."""
        state = dict(self.__dict__)
        # Another process reads them itself: PyTorch would send tensors as shared memory, which this process must keep.
        state.pop("environments", None)
        return state

    def __call__(self, group: _Group) -> Iterator[_Taken]:
        """Write the maps of a material and photograph it, once for each sample of the group."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        # Converted once for each group; the fine maps are on the device until the next material replaces them.
        maps = {}
        for name, values in _copy_maps(
            self.origins[group.material], self.output / group.material, self.settings
        ).items():
            maps[name] = decode_map(MAPS[name], torch.from_numpy(values)[None].to(self.device))
        surface = surface_for(maps, self.settings.view_size)
        for index in group.indices:
            views, cameras, record = _take_capture(surface, index, self)
            write_views(self.input, index, views)
            yield _Taken(index, group.material, cameras, record)


@dataclass(frozen=True)
class SynthesisReport:
    """The outcome of rendering.

    Attributes:
        rendered: Number of samples rendered.
        dirty: Number of these that have a dirty rendering too.
        kept: Number of samples that existed before.
        folder: The folder that holds them: that of the part, as long as it is not merged.
    """

    rendered: int
    dirty: int
    kept: int
    folder: Path


def synthesize(
    plan: Synthesize,
    out: Path,
    *,
    views: int = 3,
    resume: bool = False,
    device: str = "cpu",
    jobs: int = 1,
    part: Part | None = None,
) -> SynthesisReport:
    """Render captures of materials into a dataset folder.

    Args:
        plan: Materials, light, number of samples, sizes and seed.
        out: Dataset folder; `input/` and `output/` are written below it.
        views: Views of each sample.
        resume: Whether to keep the complete samples of an earlier call with the same settings, instead of refusing.
        device: Device that renders: `auto`, `cpu`, `cuda` or `mps`. Pixels are the same up to rounding.
        jobs: Processes that render. Their number changes no byte of the result. A script that asks for more than one
            must start under `if __name__ == "__main__":`.
        part: Render this part alone, into `out/parts/`, to be merged with the others by `parts.merge_parts`.

    Returns:
        Counts of the samples that were rendered and kept.

    Raises:
        DataError: Materials or radiance maps are missing or damaged (the message lists all of them), or `out` holds
            something else already; or a process died.
        DeviceError: The device is not available.
        RunError: Another process renders into this folder.
    """
    origins = find_materials_of(plan)
    settings = plan_settings(plan, views)
    samples: Sequence[int] = range(plan.samples)
    folder = out
    if part is None:
        refuse_parts(out)
    else:
        samples = part.samples(plan.samples, len(origins))
        folder = part.folder(out)
        # A job of a cluster that is started again may come after the merge.
        if resume and is_merged(part, out):
            merged = CaptureFolder(out)
            _require_continuable(merged, settings, resume)
            if lost := merged.missing(settings, samples):
                raise DataError(f"{out}: lacks {len(lost)} samples of part {part}; render them without --part")
            reporter().line(f"{out}: part {part} is merged already")
            return SynthesisReport(0, 0, len(samples), out)
        require_part(part, out, plan.samples)
    # Two processes would render the same samples, and the records of the slower one would replace the other's.
    task = "renders into this folder; wait for it or stop it, or choose another folder"
    with FolderLock(folder, task, keep_folder=folder.exists()) as lock:
        if part is not None:
            require_part(part, out, plan.samples)  # again: a merge may have come first
        capture_folder = CaptureFolder(folder)
        _require_continuable(capture_folder, settings, resume)
        missing = capture_folder.missing(settings, samples)
        if missing:
            # Everything that can fail early fails before the folder changes: device, materials, radiance maps.
            studio = _Studio(capture_folder.input, capture_folder.output, origins, settings, choose_device(device))
            studio.environment_files = _environment_files(plan)
            _require_sound(origins.values())
            studio.environments  # noqa: B018 - read here, for their errors
            # The settings come before the first capture, so that an interrupted folder can be continued.
            capture_folder.start(settings)
            if part is not None:
                record_part(part, out, plan.samples)
            _render(capture_folder, studio, missing, jobs, lock)
    dirty = sum(settings.dirty(index) for index in missing)
    return SynthesisReport(len(missing), dirty, len(samples) - len(missing), folder)


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
    capture_folder: CaptureFolder, studio: _Studio, missing: Sequence[int], jobs: int, lock: FolderLock
) -> None:
    """Render the missing samples, and record them."""
    names = list(studio.origins)
    # Material by material, so that each is decoded once. The order changes no pixel: a sample draws from its own key.
    ordered = sorted(missing, key=lambda index: (index % len(names), index))
    # A few groups for each process: materials with many samples are split, so that no process is left with the last.
    largest = -(-len(ordered) // (_GROUPS * jobs))
    groups = []
    for position, indices in itertools.groupby(ordered, key=lambda index: index % len(names)):
        own = list(indices)
        size = len(own) if jobs == 1 else largest
        for start in range(0, len(own), size):
            groups.append(_Group(names[position], tuple(own[start : start + size])))

    if jobs == 1:
        stream = (taken for group in groups for taken in studio(group))
    else:
        # More threads than cores would wait for each other.
        studio.threads = max(1, cores() // jobs)
        advice = "try fewer --jobs; --resume keeps what is complete"
        stream = stream_jobs(studio, groups, jobs, "rendering captures", advice)
    saved = time.monotonic()
    try:
        with closing(stream):
            for taken in track(stream, len(ordered), "rendering captures"):
                capture_folder.add(taken.sample, taken.material, taken.cameras, taken.record)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    lock.require()
                    capture_folder.save()
                    saved = time.monotonic()
    finally:
        # Also after an error or Ctrl-C, but not when another process has taken the folder over and writes its records.
        lock.require()
        capture_folder.save()


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
