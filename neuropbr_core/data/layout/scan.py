"""Which samples a dataset folder holds, and everything that is wrong with it.

    ROOT/input/clean/sample_0000/{0,1,2}.png       views, as rendered or photographed
    ROOT/input/dirty/sample_0000/{0,1,2}.png       the same with artefacts; optional
    ROOT/input/render_metadata.json                {"sample_0000": "wood_oak", …}
    ROOT/input/cameras.json                        optional; needed for recorded alignment
    ROOT/input/cameras.estimated.json              made for estimated alignment; see `registration.stored`
    ROOT/output/wood_oak/{albedo,roughness,metallic,normal}.png

No pixel is decoded here and torch is not needed; `checking` decodes the files as well.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuropbr_core.data.images.heif import HEIF_SUFFIXES
from neuropbr_core.data.images.read import is_cut_off
from neuropbr_core.data.layout.cameras_file import CameraRecord, read_cameras
from neuropbr_core.data.layout.findings import Finding, of_level
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data
from neuropbr_core.samples import Sample as SampleOf

Source = Literal["clean", "dirty"]

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg", *HEIF_SUFFIXES)
_SUFFIXES = (*PHOTO_SUFFIXES, ".webp", ".tif", ".tiff", ".tga", ".bmp", ".exr")
METADATA_NAME = "render_metadata.json"
CAMERAS_NAME = "cameras.json"

_CURRICULA: dict[object, tuple[Source, ...]] = {
    0: ("clean",),
    1: ("clean", "dirty"),
    2: ("dirty",),
    "clean": ("clean",),
    "mixed": ("clean", "dirty"),
    "dirty": ("dirty",),
}
_SHOWN = 50  # problems spelled out in an error; `neuropbr data check --json` has them all

Sample = SampleOf[Path]
"""A sample whose images are files."""


@dataclass(frozen=True)
class Paths:
    """Where the parts of a dataset lie."""

    input: Path
    output: Path
    metadata: Path
    cameras: Path


@dataclass(frozen=True)
class Scan:
    """What a dataset folder holds: usable samples, and each thing that is wrong."""

    samples: list[Sample]
    findings: list[Finding]


def locate(data: Data) -> Paths:
    """Return where the recipe's dataset lies; nothing is read.

    Raises:
        DataError: Neither `root` nor both folders are given.
    """
    if data.root is None and (data.input_dir is None or data.output_dir is None):
        raise DataError("no dataset: set data.root, or data.input_dir and data.output_dir")
    root = Path(data.root or "")
    folder = Path(data.input_dir) if data.input_dir is not None else root / "input"
    output = Path(data.output_dir) if data.output_dir is not None else root / "output"
    metadata = Path(data.metadata) if data.metadata is not None else folder / METADATA_NAME
    return Paths(folder, output, metadata, folder / CAMERAS_NAME)


def sources(data: Data) -> tuple[Source, ...]:
    """Return the folders that the curriculum reads; the older `use_dirty` means dirty only."""
    return ("dirty",) if data.use_dirty else _CURRICULA[data.render_curriculum]


def sample_name(index: int) -> str:
    """Name of sample `index`'s folder."""
    return f"sample_{index:04d}"


def view_name(index: int) -> str:
    """Name of view `index`'s file."""
    return f"{index}.png"


def find_samples(data: Data) -> list[Sample]:
    """List the samples of a dataset, clean before dirty, each by name.

    Raises:
        DataError: Anything is missing or contradictory; all of it at once, each with its fix.
    """
    scan = scan_dataset(data)
    raise_problems([str(finding) for finding in of_level(scan.findings, "error")])
    return scan.samples


def raise_problems(problems: Sequence[str]) -> None:
    """Raise one `DataError` for all problems, if there are any."""
    if not problems:
        return
    lines = list(problems[:_SHOWN])
    if len(problems) > _SHOWN:
        lines.append(f"… and {len(problems) - _SHOWN} more; `neuropbr data check --json` lists all")
    raise DataError("\n".join(lines))


def scan_dataset(data: Data, *, ends: bool = True) -> Scan:
    """List the samples of a dataset and what is wrong with it, without decoding images.

    Args:
        data: Section `data` of a recipe.
        ends: Look at the end of each file too, so that truncated images are found before training starts.

    Returns:
        Samples that are complete, and one finding for each problem.

    Raises:
        DataError: The section names no folder.
    """
    paths = locate(data)
    folders = [(source, folder) for source in sources(data) for folder in sample_folders(paths.input / source)]
    if not folders:
        return Scan([], [_no_samples(paths, data)])
    metadata, lines = read_metadata(paths.metadata)
    if metadata is None:
        return Scan([], [_about_file(paths.metadata, "metadata", line) for line in lines])
    maps, findings = _material_maps(paths.output, metadata, {folder.name for _, folder in folders}, ends)
    cameras, camera_findings = _recorded_cameras(paths.cameras, data)
    findings += camera_findings
    samples = []
    for source, folder in folders:
        problems = _sample_problems(folder, data.views, metadata, paths, ends)
        problems += _camera_problems(folder, data, cameras, paths)
        identity = f"{source}/{folder.name}"
        findings += [Finding("error", code, str(folder), text, sample=identity) for code, text in problems]
        if not problems and (material := metadata[folder.name]) in maps:
            views = tuple(folder / view_name(view) for view in range(data.views))
            taken = cameras[folder.name][: data.views] if cameras is not None else None
            samples.append(Sample(identity, source, material, views, maps[material], taken))
    return Scan(samples, findings)


def read_metadata(path: Path) -> tuple[dict[str, str] | None, list[str]]:
    """Read `render_metadata.json`; None and the reason when it cannot be used."""
    example = 'a JSON object from sample folders to material folders, such as {"sample_0000": "wood_oak"}'
    try:
        metadata = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    except FileNotFoundError:
        return None, [f"{path}: no such file; create it: {example}"]
    except (OSError, ValueError) as error:
        return None, [f"{path}: {error}; it must be {example}"]
    if not isinstance(metadata, dict):
        return None, [f"{path}: found a {type(metadata).__name__}; it must be {example}"]
    wrong = [name for name, material in metadata.items() if not _is_folder_name(material)]
    if wrong:
        return None, [f"{path}: {name}: {metadata[name]!r} is not the name of a material folder" for name in wrong]
    return metadata, []


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """A JSON object whose names are all different; of equal ones Python would silently take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} stands there {names.count(twice)} times, name it once")
    return found


def sample_folders(folder: Path) -> list[Path]:
    """List the sample folders below `input/clean` or `input/dirty`, by name."""
    return sorted(path for path in folder.glob("sample_*") if path.is_dir())


def list_photos(folder: Path) -> tuple[Path, ...]:
    """List the photos in a folder by name; numbers in names count as numbers, so that 10.png comes after 9.png.

    Raises:
        DataError: There is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder with the photos or renders of one material")
    found = [path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES and path.name[0] != "."]
    if not found:
        raise DataError(f"{folder}: holds no image; allowed: {', '.join(PHOTO_SUFFIXES)}")
    return tuple(sorted(found, key=lambda path: (re.sub(r"\d+", lambda number: number[0].zfill(12), path.name), path)))


def missing_maps(folder: Path) -> str | None:
    """Say which map files a material folder lacks; None when it is complete."""
    missing = [spec.file_name for spec in MAPS.values() if not (folder / spec.file_name).is_file()]
    if not missing:
        return None
    needed = ", ".join(spec.file_name for spec in MAPS.values())
    hint = _misnamed(folder, missing)
    instead = f". There is {hint}; `neuropbr data import` makes PNG files of the right names" if hint else ""
    return f"{folder}: {', '.join(missing)} missing; a material folder needs {needed}{instead}"


def _misnamed(folder: Path, missing: Sequence[str]) -> str:
    """List the images in a folder that are called like missing ones, but for capitals or suffix."""
    stems = {Path(name).stem for name in missing}
    names = [path.name for path in folder.iterdir() if path.stem.lower() in stems and path.suffix.lower() in _SUFFIXES]
    return ", ".join(sorted(names))


def map_files(folder: Path) -> dict[str, Path]:
    """Paths of the four maps in a material folder, by name."""
    return {name: folder / spec.file_name for name, spec in MAPS.items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean …?` for a name that is not among `known`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _is_folder_name(value: object) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and not set(value) & set("/\\\0")


def _about_file(path: Path, code: str, line: str) -> Finding:
    return Finding("error", code, str(path), line.removeprefix(f"{path}: "))


def _no_samples(paths: Paths, data: Data) -> Finding:
    """Why a curriculum finds nothing, and what would."""
    wanted = " or ".join(str(paths.input / source) for source in sources(data))
    others: list[Source] = ["clean", "dirty"]
    present = [source for source in others if sample_folders(paths.input / source)]
    if present:
        hint = f"{paths.input / present[0]} has some: set data.render_curriculum to {present[0]} or mixed"
    elif not paths.input.is_dir() and paths.output.is_dir():
        hint = f"photograph the materials in {paths.output}, or render them with `neuropbr data synthesize`"
    elif not paths.input.is_dir():
        hint = f"the folder {paths.input} does not exist; set data.root to the folder that holds input/ and output/"
    else:
        hint = "put each sample's views there as sample_0000/0.png, 1.png, …"
    return Finding("error", "no-samples", wanted, f"no samples found; {hint}")


def _material_maps(
    output: Path, metadata: Mapping[str, str], names: set[str], ends: bool
) -> tuple[dict[str, dict[str, Path]], list[Finding]]:
    """Map files of each material that `names` use and that is complete; problems once a material."""
    maps, findings = {}, []
    known = {path.name for path in output.iterdir() if path.is_dir()} if output.is_dir() else set()
    for material in sorted({metadata[name] for name in names if name in metadata}):
        folder, code, text = output / material, "missing-maps", None
        if material not in known:
            users = sorted(name for name in names if metadata.get(name) == material)
            who = f"{users[0]} needs" if len(users) == 1 else f"{users[0]} and {len(users) - 1} more need"
            code, text = "missing-material", f"no such folder; {who} it.{nearest(material, known)}"
        elif missing := missing_maps(folder):
            text = missing.removeprefix(f"{folder}: ")
        elif ends and (cut := _cut_off(map_files(folder).values())):
            code, text = "truncated", cut
        if text is None:
            maps[material] = map_files(folder)
        else:
            findings.append(Finding("error", code, str(folder), text, material=material))
    return maps, findings


def _cut_off(files: Iterable[Path]) -> str | None:
    """Say which of some files are truncated; None when all are whole."""
    cut = [path.name for path in files if is_cut_off(path)]
    return f"{', '.join(cut)} truncated; restore from the source, or remove what uses it" if cut else None


def _recorded_cameras(path: Path, data: Data) -> tuple[dict[str, tuple[CameraRecord, ...]] | None, list[Finding]]:
    if data.alignment != "recorded":
        return None, []
    try:
        return read_cameras(path), []
    except DataError as error:
        return None, [_about_file(path, "cameras", line) for line in str(error).splitlines()]


def _sample_problems(
    folder: Path, views: int, metadata: Mapping[str, str], paths: Paths, ends: bool
) -> list[tuple[str, str]]:
    """What a sample lacks: codes and messages."""
    problems = []
    if folder.name not in metadata:
        text = f'not in {paths.metadata}; add "{folder.name}": "<its folder in {paths.output}>"'
        problems.append(("not-in-metadata", text))
    files = {view_name(view): folder / view_name(view) for view in range(views)}
    if missing := [name for name, path in files.items() if not path.is_file()]:
        hint = _misnamed(folder, missing)
        instead = f"There is {hint}: save it as PNG under the right name" if hint else "Add them, or remove the sample"
        text = f"data.views is {views}, so a sample has {', '.join(files)}. {instead}"
        problems.append(("missing-views", f"{', '.join(missing)} missing; {text}"))
    if ends and (cut := _cut_off(path for name, path in files.items() if name not in missing)):
        problems.append(("truncated", cut))
    return problems


def _camera_problems(
    folder: Path, data: Data, cameras: Mapping[str, Sequence[CameraRecord]] | None, paths: Paths
) -> list[tuple[str, str]]:
    if cameras is None:
        return []
    if folder.name not in cameras:
        text = f"not in {paths.cameras}; record its cameras, or set data.alignment to none"
        return [("missing-cameras", text)]
    if (count := len(cameras[folder.name])) < data.views:
        text = f"{paths.cameras} has {count} of its {data.views} cameras; record one for each view"
        return [("missing-cameras", text)]
    return []
