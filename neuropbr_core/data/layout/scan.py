"""Lists the samples of a dataset folder, and everything that is wrong with the folder.

`paths` describes the layout of the folder. This module decodes no pixel and needs no torch; `checking` decodes the
files as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.data.decoding import is_cut_off
from neuropbr_core.data.layout.captures_file import DEFAULT_KIND, read_capture_kinds
from neuropbr_core.data.layout.findings import Finding, of_level, raise_problems
from neuropbr_core.data.layout.paths import (
    CONDITIONS,
    CameraRecord,
    Condition,
    Paths,
    conditions,
    locate,
    map_files,
    misnamed,
    missing_maps,
    read_cameras,
    read_metadata,
    sample_folders,
    view_name,
)
from neuropbr_core.errors import DataError
from neuropbr_core.recipe.sections import Data
from neuropbr_core.samples import Sample as SampleOf
from neuropbr_core.suggestions import did_you_mean

Sample = SampleOf[Path]
"""A sample whose images are files."""

Cameras = Mapping[str, tuple[CameraRecord, ...]]
"""The cameras of each sample, by the name of its folder."""


@dataclass(frozen=True)
class Scan:
    """The content of a dataset folder: usable samples, and each thing that is wrong."""

    samples: list[Sample]
    findings: list[Finding]


def find_samples(data: Data) -> list[Sample]:
    """List the samples of a dataset, clean before dirty, each by name.

    Raises:
        DataError: Something is missing or contradictory. The message lists all problems, each with its fix.
    """
    scan = scan_dataset(data)
    raise_problems(list(map(str, of_level(scan.findings, "error"))))
    return scan.samples


def scan_dataset(data: Data, *, ends: bool = True) -> Scan:
    """List the samples of a dataset and its problems, without decoding images.

    Args:
        data: Section `data` of a recipe.
        ends: Whether to read the end of each file too, which reveals truncated images before training starts.

    Returns:
        Samples that are complete, and one finding for each problem.

    Raises:
        DataError: The section names no folder.
    """
    paths = locate(data)
    folders: list[tuple[Condition, Path]] = []
    names = set()
    for condition in conditions(data):
        for folder in sample_folders(paths.input / condition):
            folders.append((condition, folder))
            names.add(folder.name)
    if not folders:
        return Scan([], [_no_samples(paths, data)])
    metadata, problems = read_metadata(paths.metadata)
    if metadata is None:
        # Without the metadata nothing more can be judged: every sample would lack its material.
        findings = []
        for problem in problems:
            findings.append(_about_file(paths.metadata, "metadata", problem))
        return Scan([], findings)

    maps, findings = _scan_materials(paths.output, metadata, names, ends)
    cameras: Cameras | None = None
    if data.alignment == "recorded":
        try:
            cameras = read_cameras(paths.cameras)
        except DataError as error:
            # Reported once, for the file: otherwise every sample would lack its cameras.
            for line in str(error).splitlines():
                findings.append(_about_file(paths.cameras, "cameras", line))

    kinds: Mapping[str, str] = {}
    try:
        kinds = read_capture_kinds(paths.captures)
    except DataError as error:
        findings.append(_about_file(paths.captures, "captures", str(error)))

    samples = []
    for condition, folder in folders:
        problems_of_sample = _sample_problems(folder, data.views, metadata, paths, ends)
        if cameras is not None:
            problems_of_sample += _camera_problems(folder, data.views, cameras, paths)
        identity = f"{condition}/{folder.name}"
        for code, text in problems_of_sample:
            findings.append(Finding("error", code, str(folder), text, sample=identity))
        if problems_of_sample:
            continue
        material = metadata[folder.name]
        if material not in maps:
            continue  # the finding about the material covers its samples
        views = tuple(folder / view_name(view) for view in range(data.views))
        cameras_of_sample = None
        if cameras is not None:
            cameras_of_sample = cameras[folder.name][: data.views]
        kind = kinds.get(folder.name, DEFAULT_KIND)
        samples.append(Sample(identity, condition, material, views, maps[material], cameras_of_sample, kind))
    return Scan(samples, findings)


def _about_file(path: Path, code: str, line: str) -> Finding:
    # Errors about a file begin with its path, which a finding keeps apart.
    return Finding("error", code, str(path), line.removeprefix(f"{path}: "))


def _no_samples(paths: Paths, data: Data) -> Finding:
    """Explain why a curriculum has no samples, and what would help."""
    searched = []
    for condition in conditions(data):
        searched.append(str(paths.input / condition))
    present = []
    for condition in CONDITIONS:
        if sample_folders(paths.input / condition):
            present.append(condition)
    # The most specific hint comes first; the last one is for a dataset of which only the empty folders exist.
    if present:
        hint = f"{paths.input / present[0]} has some: set data.render_curriculum to {present[0]} or mixed"
    elif not paths.input.is_dir() and paths.output.is_dir():
        hint = f"photograph the materials in {paths.output}, or render them with `neuropbr data synthesize`"
    elif not paths.input.is_dir():
        hint = f"the folder {paths.input} does not exist; set data.root to the folder that holds input/ and output/"
    else:
        hint = "put each sample's views there as sample_0000/0.png, 1.png, …"
    return Finding("error", "no-samples", " or ".join(searched), f"no samples found; {hint}")


def _scan_materials(
    output: Path, metadata: Mapping[str, str], names: set[str], ends: bool
) -> tuple[dict[str, dict[str, Path]], list[Finding]]:
    """Return the map files of each complete material that the samples `names` show, and a finding for each other."""
    maps: dict[str, dict[str, Path]] = {}
    findings = []
    known = set[str]()
    if output.is_dir():
        for path in output.iterdir():
            if path.is_dir():
                known.add(path.name)
    samples_of: dict[str, list[str]] = {}
    for name in sorted(names & metadata.keys()):
        samples_of.setdefault(metadata[name], []).append(name)
    # One finding for a material, however many samples show it: it is fixed in one place.
    for material, users in sorted(samples_of.items()):
        folder = output / material
        if material not in known:
            if len(users) == 1:
                who = f"{users[0]} needs"
            else:
                who = f"{users[0]} and {len(users) - 1} more need"
            text = f"no such folder; {who} it.{did_you_mean(material, known)}"
            findings.append(Finding("error", "missing-material", str(folder), text, material=material))
        elif missing := missing_maps(folder):
            text = missing.removeprefix(f"{folder}: ")
            findings.append(Finding("error", "missing-maps", str(folder), text, material=material))
        elif ends and (text := _cut_off(list(map_files(folder).values()))):
            findings.append(Finding("error", "truncated", str(folder), text, material=material))
        else:
            maps[material] = map_files(folder)
    return maps, findings


def _cut_off(files: Sequence[Path]) -> str:
    """Describe which files are truncated; empty when all are whole."""
    cut = []
    for path in files:
        if is_cut_off(path):
            cut.append(path.name)
    if not cut:
        return ""
    return f"{', '.join(cut)} truncated; restore from the source, or remove what uses it"


def _sample_problems(
    folder: Path, views: int, metadata: Mapping[str, str], paths: Paths, ends: bool
) -> list[tuple[str, str]]:
    """Return what a sample lacks, as codes and messages."""
    problems = []
    if folder.name not in metadata:
        text = f'not in {paths.metadata}; add "{folder.name}": "<its folder in {paths.output}>"'
        problems.append(("not-in-metadata", text))
    names = [view_name(view) for view in range(views)]
    missing = []
    present = []
    for name in names:
        if (folder / name).is_file():
            present.append(folder / name)
        else:
            missing.append(name)
    if missing:
        # Photos are often there under another suffix, such as 0.jpg: name them, instead of asking for new ones.
        if similar := misnamed(folder, missing):
            fix = f"There is {similar}: save it as PNG under the right name"
        else:
            fix = "Add them, or remove the sample"
        text = f"{', '.join(missing)} missing; data.views is {views}, so a sample has {', '.join(names)}. {fix}"
        problems.append(("missing-views", text))
    if ends and (text := _cut_off(present)):
        problems.append(("truncated", text))
    return problems


def _camera_problems(folder: Path, views: int, cameras: Cameras, paths: Paths) -> list[tuple[str, str]]:
    """Return what a sample lacks in the cameras file, as codes and messages."""
    if folder.name not in cameras:
        text = f"not in {paths.cameras}; record its cameras, or set data.alignment to none"
        return [("missing-cameras", text)]
    # More cameras than views are no problem: a recipe may use the first views of each sample only.
    count = len(cameras[folder.name])
    if count < views:
        text = f"{paths.cameras} has {count} of its {views} cameras; record one for each view"
        return [("missing-cameras", text)]
    return []
