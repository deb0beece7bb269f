"""Captures that several machines render: each renders one part, and the parts are merged into one dataset.

    ROOT/parts/3-of-8/input/…    what the third machine of eight rendered, in the usual layout
    ROOT/parts/3-of-8/input/part.json

A part is a run of samples in the order of materials, so that most materials are needed by one machine only. The merged
folder equals one that was rendered in a single call.
"""

import filecmp
import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.data.layout.paths import METADATA_NAME, map_files, sample_name
from neuropbr_core.data.synthesis.capture_folder import CaptureFolder, Settings, decode_record, setting_changes
from neuropbr_core.errors import DataError, RunError
from neuropbr_core.files import remove, replacing, write_json
from neuropbr_core.lock import FolderLock, read_lock
from neuropbr_core.reporting import track

PARTS = "parts"
"""Folder of the parts, below the dataset's."""

_PART_NAME = re.compile(r"(\d{1,6})-of-(\d{1,6})")
_RECORD_NAME = "part.json"
_MERGED = ".parts-merged"  # what the folder of the parts is called while it is removed
_MOST_PARTS = 100_000
_NAMED = 3  # samples that an error names


@dataclass(frozen=True)
class Part:
    """One part of a set of captures.

    Attributes:
        index: Its number, from 1.
        count: Number of parts.
    """

    index: int
    count: int

    def folder(self, root: Path) -> Path:
        """The folder that it is rendered into, below a dataset's."""
        return root / PARTS / f"{self.index}-of-{self.count}"

    def samples(self, total: int, materials: int) -> list[int]:
        """List the numbers of its samples.

        Args:
            total: Samples of all parts.
            materials: Number of materials, which samples show in turn.
        """
        # Material by material, as rendering goes: a part then decodes its own materials, and few that others need too.
        ordered = sorted(range(total), key=lambda sample: (sample % materials, sample))
        start = (self.index - 1) * total // self.count
        stop = self.index * total // self.count
        return sorted(ordered[start:stop])

    def __str__(self) -> str:
        """The form of `--part`."""
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class _PartRecord:
    """What a part's folder records about its place among the parts."""

    part: int
    parts: int
    samples: int


@dataclass(frozen=True)
class MergeReport:
    """The outcome of merging.

    Attributes:
        parts: Number of parts.
        samples: Number of samples in the merged dataset.
    """

    parts: int
    samples: int


@dataclass(frozen=True)
class _Rendered:
    """A part as it is on the disk."""

    part: Part
    path: Path
    record: _PartRecord
    captures: CaptureFolder
    settings: Settings


def parse_part(text: str) -> Part:
    """Read a part such as `3/8`.

    Raises:
        DataError: It is none.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is not None:
        part = Part(int(match[1]), int(match[2]))
        if 1 <= part.index <= part.count <= _MOST_PARTS:
            return part
    raise DataError(f"part {text!r}: must be I/N, such as 3/8: I from 1 to N, N at most {_MOST_PARTS}")


def is_merged(part: Part, root: Path) -> bool:
    """Whether a dataset is there and the part is not: the parts are merged, and this one would be rendered again."""
    begun = (part.folder(root) / "input" / _RECORD_NAME).exists()
    # A merge writes this file at its end; without it the merge was interrupted, and is done again from the parts.
    return not begun and (root / "input" / METADATA_NAME).exists()


def require_part(part: Part, root: Path, samples: int) -> None:
    """Refuse a part that cannot be rendered, or not be continued.

    Args:
        part: The part.
        root: The dataset's folder.
        samples: Samples of all parts.

    Raises:
        DataError: There are more parts than samples, the parts of this folder are merged or being merged, or the part
            was begun as one of another number of samples.
    """
    if part.count > samples:
        raise DataError(f"part {part}: {samples} samples make at most {samples} parts")
    merging = read_lock(root)
    if merging is not None and merging.staleness() is None:
        raise DataError(f"{root}: {merging} writes there; render parts before they are merged, or into another folder")
    if is_merged(part, root):
        raise DataError(
            f"{root}: holds a dataset, so part {part} is merged already; check it with --resume, or choose another "
            f"folder"
        )
    path = part.folder(root) / "input" / _RECORD_NAME
    if path.exists():
        there = decode_record(path, _PartRecord)
        if there != _PartRecord(part.index, part.count, samples):
            raise DataError(
                f"{path}: says part {there.part}/{there.parts} of {there.samples} samples; wanted is part {part} of "
                f"{samples}; ask for the same, or remove the part's folder"
            )


def record_part(part: Part, root: Path, samples: int) -> None:
    """Record in a part's folder which part it is, and of how many samples."""
    write_json(part.folder(root) / "input" / _RECORD_NAME, _PartRecord(part.index, part.count, samples))


def refuse_parts(root: Path) -> None:
    """Refuse a dataset's folder whose parts are not merged.

    Raises:
        DataError: It has parts.
    """
    for path in (root / PARTS).glob("*"):
        if not _PART_NAME.fullmatch(path.name):
            continue
        raise DataError(
            f"{root / PARTS}: holds parts that are not merged; merge them with `neuropbr data merge {root}`, or remove "
            f"that folder"
        )


def merge_parts(root: Path) -> MergeReport:
    """Merge the parts of a dataset's folder into one dataset, and remove them.

    All parts are checked before anything is written: each is there, they have the same settings, each has its own
    samples and no others, every file is whole, and a material that several parts show has the same maps in all of
    them. A merge that was interrupted is done again by the same call.

    Args:
        root: The dataset's folder, with the folder `parts`.

    Returns:
        Counts of what was merged.

    Raises:
        DataError: There are no parts, or they do not make up a dataset. The message lists all problems.
        RunError: Another process merges, or renders into this folder.
    """
    if not (root / PARTS).is_dir():
        raise DataError(
            f"{root / PARTS}: no such folder; render the parts with `neuropbr data synthesize … --output {root} "
            f"--part 1/N` to `--part N/N`"
        )
    with FolderLock(root, "writes there; wait for it or stop it"), ExitStack() as locks:
        remove(root / _MERGED)  # of an earlier merge that was killed at its very end
        rendered = _read_parts(root, locks)
        first = rendered[0]
        total = first.record.samples
        merged = CaptureFolder(root)
        _require_mergeable(root, merged, first.settings, total)
        _require_complete(rendered)

        # The settings come first, as in rendering, so that the folder is known for what it is.
        merged.start(first.settings)
        for place in track(rendered, len(rendered), "merging parts"):
            for name in place.captures.materials:
                for condition in ("clean", "dirty"):
                    source = place.captures.input / condition / name
                    if source.is_dir():
                        _link_folder(source, merged.input / condition / name)
            for material in sorted(set(place.captures.materials.values())):
                target = merged.output / material
                if not target.is_dir():  # another part may have shown it, too
                    _link_folder(place.captures.output / material, target)
            merged.materials.update(place.captures.materials)
            merged.cameras.update(place.captures.cameras)
            merged.captures.update(place.captures.captures)
        merged.save()
        # Renamed before it is removed: half of the parts would look like parts that are missing.
        (root / PARTS).rename(root / _MERGED)
        remove(root / _MERGED)
    return MergeReport(len(rendered), total)


def _read_parts(root: Path, locks: ExitStack) -> list[_Rendered]:
    """Read the records of all parts, in order, and keep everybody else from rendering them.

    Args:
        root: The dataset's folder.
        locks: Receives the locks of the parts.

    Raises:
        DataError: Parts are missing, being rendered, or do not belong together.
    """
    folders: dict[Part, Path] = {}
    problems = []
    for path in sorted((root / PARTS).iterdir()):
        if path.name.startswith("."):
            continue
        match = _PART_NAME.fullmatch(path.name)
        if match is None:
            problems.append(f"{path}: is no part, whose name is like 3-of-8; move it away")
            continue
        folders[Part(int(match[1]), int(match[2]))] = path
    counts = sorted({part.count for part in folders})
    if len(counts) > 1:
        numbers = " and ".join(map(str, counts))
        problems.append(f"{root / PARTS}: holds parts of {numbers} parts; keep one division, and remove the others")
    raise_problems(problems)
    if not folders:
        raise DataError(f"{root / PARTS}: holds no parts; render them with `neuropbr data synthesize … --part 1/N`")
    missing = []
    for index in range(1, counts[0] + 1):
        if Part(index, counts[0]) not in folders:
            missing.append(f"{index}/{counts[0]}")
    if missing:
        raise DataError(f"{root / PARTS}: lacks {', '.join(missing)}; render them with --part, or copy them there")

    rendered = []
    for part, path in sorted(folders.items(), key=lambda item: item[0].index):
        try:
            locks.enter_context(FolderLock(path, "still renders it; wait for it", keep_folder=True))
        except RunError as error:
            problems.append(str(error))
            continue
        captures = CaptureFolder(path)
        settings = captures.settings()
        if settings is None or not (path / "input" / _RECORD_NAME).exists():
            problems.append(f"{path}: was not begun; render it with --part {part}")
            continue
        record = decode_record(path / "input" / _RECORD_NAME, _PartRecord)
        if (record.part, record.parts) != (part.index, part.count):
            problems.append(f"{path}: holds part {record.part}/{record.parts}; give the folder its own name back")
            continue
        rendered.append(_Rendered(part, path, record, captures, settings))
    raise_problems(problems)
    first = rendered[0]
    for other in rendered[1:]:
        changes = setting_changes(first.settings, other.settings)
        if other.record.samples != first.record.samples:
            changes.append(f"samples {first.record.samples} there, {other.record.samples} wanted")
        if changes:
            problems.append(
                f"{other.path}: was rendered with other settings than {first.path}: {'; '.join(changes)}; render "
                f"one of them again"
            )
    raise_problems(problems)
    return rendered


def _require_mergeable(root: Path, merged: CaptureFolder, settings: Settings, total: int) -> None:
    """Refuse to merge into a folder that holds anything but the same captures, as an interrupted merge leaves them."""
    recorded = merged.settings()
    if recorded is None:
        if merged.foreign() or merged.output.exists():
            raise DataError(f"{root}: holds a dataset beside its parts; move the parts into a folder of their own")
        return
    changes = setting_changes(recorded, settings)
    if len(merged.materials) > total:
        changes.append(f"samples {len(merged.materials)} there, {total} wanted")
    if changes:
        raise DataError(
            f"{merged.input}: was rendered with other settings than its parts: {'; '.join(changes)}; move the "
            f"parts into a folder of their own"
        )


def _require_complete(rendered: list[_Rendered]) -> None:
    """Refuse parts that lack samples, have samples of others, or disagree about a material."""
    problems = []
    maps: dict[str, Path] = {}
    for place in rendered:
        own = place.part.samples(place.record.samples, len(place.settings.materials))
        lost = place.captures.missing(place.settings, own)
        if lost:
            names = ", ".join(map(sample_name, lost[:_NAMED]))
            if len(lost) > _NAMED:
                names += ", …"
            problems.append(
                f"{place.path}: lacks {len(lost)} of its {len(own)} samples, or parts of them: {names}; "
                f"continue it with --part {place.part} --resume"
            )
        strange = sorted(place.captures.materials.keys() - set(map(sample_name, own)))
        if strange:
            problems.append(f"{place.path}: has samples of other parts: {', '.join(strange[:_NAMED])}; render it again")
        for material in sorted(set(place.captures.materials.values())):
            here = place.captures.output / material
            there = maps.setdefault(material, here)
            for name, path in map_files(here).items():
                other = map_files(there)[name]
                if path.is_file() and other.is_file() and not filecmp.cmp(path, other, shallow=False):
                    problems.append(f"{path}: differs from {other}; render one of the two parts again")
    raise_problems(problems)


def _link_folder(source: Path, target: Path) -> None:
    """Give the files of a folder a second name in another folder, which appears whole or not at all."""
    with replacing(target) as aside:
        aside.mkdir()
        for file in sorted(source.iterdir()):
            # A second name takes no time and no space, and the parts stay whole until the merge is complete. Some file
            # systems do not have it.
            try:
                os.link(file, aside / file.name)
            except OSError:
                shutil.copy2(file, aside / file.name)
