"""Moves bad samples and materials out of a dataset, and back. Nothing is ever deleted.

    DIR/quarantine.json                            the log: what was moved, from where, when and why
    DIR/input/…  DIR/output/…                      the folders, in the layout they had
    DIR/input/{render_metadata,cameras,captures}.json
                                                   their entries, taken out of the dataset's own files

`restore` reads the log. It is written before a folder moves, and the dataset's files after all folders have moved.
After an interruption, every folder that is in its new place is in the log.
"""

import datetime as dt
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuropbr_core.data.layout.findings import Finding, of_level, raise_problems
from neuropbr_core.data.layout.paths import (
    CAMERAS_NAME,
    CAPTURES_NAME,
    CONDITIONS,
    METADATA_NAME,
    Paths,
    conditions,
    locate,
    read_metadata,
    sample_folders,
)
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_json
from neuropbr_core.reading import is_plain_name, parse_plain, read_bytes, read_json
from neuropbr_core.recipe.sections import Data
from neuropbr_core.shown import shortened

LOG_NAME = "quarantine.json"

Records = dict[str, Any]
"""A JSON object with one entry for each sample."""


@dataclass(frozen=True)
class Move:
    """A folder that was moved.

    Attributes:
        source: Where it was.
        target: Where it is.
        why: What was wrong with it, one line each.
        when: Time, UTC, ISO 8601.
    """

    source: str
    target: str
    why: tuple[str, ...]
    when: str


@dataclass
class Log:
    """Content of a quarantine.

    Attributes:
        metadata: The dataset's `render_metadata.json`.
        cameras: The dataset's `cameras.json`.
        moved: Folders, in the order in which they were moved.
    """

    metadata: str
    cameras: str
    moved: list[Move]


def quarantine(data: Data, findings: Iterable[Finding], folder: Path) -> list[Move]:
    """Move samples and materials with errors out of a dataset.

    A sample moves too if its material moves or does not exist. Warnings move nothing.

    Args:
        data: Section `data` of a recipe: the dataset.
        findings: The findings of `checking.check_dataset`.
        folder: The quarantine. It is created, or continued when it belongs to the same dataset.

    Returns:
        The folders that were moved.

    Raises:
        DataError: The metadata cannot be read, all samples that the dataset's curriculum reads would be moved, or
            `folder` is in use for something else. Nothing was moved then.
        OSError: A folder could not be moved. The log holds what was moved before it.
    """
    paths = locate(data)
    metadata, problems = read_metadata(paths.metadata)
    raise_problems(problems)
    reasons = _reasons(data, paths, metadata or {}, of_level(findings, "error"))
    if not reasons:
        return []
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    homes = {"input": paths.input, "output": paths.output}
    moves = []
    for place, why in reasons.items():
        source = homes[place[0]].resolve().joinpath(*place[1:])
        target = folder.resolve().joinpath(*place)
        moves.append(Move(str(source), str(target), why, now))
    log = _open_log(folder, paths)
    # Everything that can be refused is refused before the first folder moves.
    problems = []
    for place, move in zip(reasons, moves, strict=True):
        problems += _outside(Path(move.source), homes[place[0]].resolve())
        problems += _outside(Path(move.target), folder.resolve())
        if Path(move.target).exists():
            problems.append(f"{move.target}: is in the quarantine already; restore it first, or name another folder")
    raise_problems(problems)

    _copy_entries(paths, moves, folder)
    for move in moves:
        # The log comes first: after an interruption, it may name a folder that has not moved, never miss one that has.
        log.moved.append(move)
        write_json(folder / LOG_NAME, log)
        _move(move.source, move.target)
    gone = {Path(move.source).name for move in moves}
    for condition in CONDITIONS:
        # Both conditions of a sample share one entry, which stays as long as one of them remains.
        for sample in sample_folders(paths.input / condition):
            gone.discard(sample.name)
    for path in (paths.metadata, paths.cameras, paths.captures):
        records = _read_records(path)
        if gone & records.keys():
            for name in gone:
                records.pop(name, None)
            write_json(path, records)
    return moves


def restore(folder: Path) -> list[Move]:
    """Move all folders of a quarantine back.

    Args:
        folder: A folder that `quarantine` filled.

    Returns:
        The folders that were moved back.

    Raises:
        DataError: There is no log, the old places of folders are occupied, or a file of entries that would be
            changed cannot be read. The message lists all of them, and nothing was moved.
    """
    log = _read_log(folder / LOG_NAME)
    waiting = []
    problems = _implausible(log, folder.resolve())
    # The paths come from a file, so nothing is looked up, and nothing moves, before they are known to be a dataset's.
    raise_problems(problems)
    for move in log.moved:
        if not os.path.lexists(move.target):
            continue  # moved back by hand, or never moved because of an interruption
        waiting.append(move)
        if os.path.lexists(move.source):
            problems.append(f"{move.source}: is there again; move it away, then restore")
    cameras = Path(log.cameras)
    merged: dict[Path, Records] = {}
    for name, path in (
        (METADATA_NAME, Path(log.metadata)),
        (CAMERAS_NAME, cameras),
        # The log names no such file: it is always beside the cameras.
        (CAPTURES_NAME, cameras.with_name(CAPTURES_NAME)),
    ):
        try:
            returning = _records_to_change(folder / "input" / name)
            if returning:
                # The dataset's own entries win: they may have been edited since.
                merged[path] = returning | _records_to_change(path)
        except DataError as error:
            problems.append(str(error))
    raise_problems(problems)
    for move in reversed(waiting):
        _move(move.target, move.source)
    for path, records in merged.items():
        write_json(path, dict(sorted(records.items())))
    write_json(folder / LOG_NAME, Log(log.metadata, log.cameras, []))
    return waiting


def _implausible(log: Log, folder: Path) -> list[str]:
    """What is wrong with the paths of a log: each leads from this quarantine to its place in one dataset, and no other.

    Args:
        log: The log.
        folder: The quarantine, resolved.
    """
    advice = f"{LOG_NAME} was changed, or the quarantine was moved; move the folders back by hand"
    metadata = Path(log.metadata)
    homes: dict[str, set[Path]] = {"input": set(), "output": set()}
    problems = []
    for move in log.moved:
        source = Path(move.source)
        target = Path(move.target)
        place: tuple[str, ...] = ()
        if target.is_relative_to(folder):
            place = target.relative_to(folder).parts
        is_sample = len(place) == 3 and place[0] == "input" and place[1] in CONDITIONS
        is_material = len(place) == 2 and place[0] == "output"
        # A place such as input/clean/.. has the right length and leads elsewhere.
        plain = all(map(is_plain_name, place)) and ".." not in source.parts
        if not (plain and (is_sample or is_material) and source.parts[1 - len(place) :] == place[1:]):
            problems.append(f"{shortened(move.target)}: is no place of a sample or material in {folder}; {advice}")
            continue
        home = source.parents[len(place) - 2]
        homes[place[0]].add(home)
        # The folder around a sample or material stays when it is moved away, so it must be there to return to.
        if not source.parent.is_dir():
            problems.append(f"{shortened(move.source)}: is in no dataset, as {source.parent} is no folder; {advice}")
        problems += _outside(source, home)
        problems += _outside(target, folder)
    if any(len(places) > 1 for places in homes.values()):
        problems.append(f"{folder / LOG_NAME}: names several datasets; {advice}")
    # A dataset has its metadata, which a quarantine never takes away; another folder has none to be moved into.
    cameras = Path(log.cameras)
    in_place = cameras.name == CAMERAS_NAME and cameras.parent in {metadata.parent, *homes["input"]}
    if not in_place or (log.moved and read_metadata(metadata)[0] is None):
        problems.append(f"{shortened(log.metadata)}: is not the metadata of a dataset; {advice}")
    return problems


def _outside(path: Path, home: Path) -> list[str]:
    """One problem when a folder's place is really elsewhere, because a folder above it is a link; none otherwise."""
    # The folder itself may be a link, which is moved as a link; what it points to stays where it is.
    if path.parent.resolve().is_relative_to(home.resolve()):
        return []
    return [f"{path}: is outside {home}, because {path.parent} is a link; name the folder that it points to instead"]


def _reasons(
    data: Data, paths: Paths, metadata: Mapping[str, str], errors: Sequence[Finding]
) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return why each folder must move, by its place in the layout; samples come before materials."""
    samples = defaultdict(list)
    materials = defaultdict(list)
    for error in errors:
        if error.sample is not None:
            samples[error.sample].append(str(error))
        elif error.material is not None:
            materials[error.material].append(str(error))
    judged = conditions(data)
    read = set()
    for condition in CONDITIONS:
        for folder in sample_folders(paths.input / condition):
            # The check has looked at no other photos.
            if condition in judged:
                read.add(f"{condition}/{folder.name}")
            material = metadata.get(folder.name)
            if material in materials:
                samples[f"{condition}/{folder.name}"].append(f"its material {material} cannot be used")

    places: dict[tuple[str, ...], tuple[str, ...]] = {}
    for identity, why in sorted(samples.items()):
        places["input", *identity.split("/")] = tuple(why)
    for name, why in sorted(materials.items()):
        if (paths.output / name).exists():  # a material that does not exist is an error too, and cannot be moved
            places["output", name] = tuple(why)
    # An error in the recipe, such as a wrong number of views, must not empty a sound dataset.
    if read and read <= samples.keys():
        raise DataError(
            f"{paths.input}: all {len(read)} samples are bad, so nothing was moved; most likely data.views or the "
            f"place of the files is wrong. The first problem: {places[min(places)][0]}"
        )
    return places


def _open_log(folder: Path, paths: Paths) -> Log:
    """Return the log of a quarantine to continue, or of a new one."""
    # Paths are absolute, because the quarantine may be restored from another working directory.
    metadata = str(paths.metadata.resolve())
    cameras = str(paths.cameras.resolve())
    if not (folder / LOG_NAME).exists():
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder}: holds other things; name a new folder for the quarantine")
        return Log(metadata, cameras, [])
    log = _read_log(folder / LOG_NAME)
    if log.metadata != metadata:
        raise DataError(f"{folder}: is the quarantine of another dataset ({log.metadata}); name another folder")
    return log


def _read_log(path: Path) -> Log:
    if not path.exists():
        raise DataError(
            f"{path}: no such file, but every quarantine has one. Name the folder that samples were moved into"
        )
    return read_json(path, Log, DataError, "the folders can be moved back by hand")


def _copy_entries(paths: Paths, moves: Iterable[Move], folder: Path) -> None:
    """Copy the entries of samples that leave into the quarantine's own files."""
    names = {Path(move.source).name for move in moves}
    merged: dict[Path, Records] = {}
    for path, name in (
        (paths.metadata, METADATA_NAME),
        (paths.cameras, CAMERAS_NAME),
        (paths.captures, CAPTURES_NAME),
    ):
        leaving = {}
        for sample, entry in _read_records(path).items():
            if sample in names:
                leaving[sample] = entry
        if leaving:
            kept = folder / "input" / name
            merged[kept] = _records_to_change(kept) | leaving
    for kept, records in merged.items():
        write_json(kept, records)


def _read_records(path: Path) -> Records:
    """Return a file's entries; none when it cannot be read, in which case callers leave the file alone."""
    try:
        return _records_to_change(path)
    except DataError:
        return {}


def _records_to_change(path: Path) -> Records:
    """Return the entries of a file that is written again; none when there is no file.

    Raises:
        DataError: It cannot be read, and writing it again would lose what is in it.
    """
    advice = "mend it, or move it away"
    try:
        records = parse_plain(read_bytes(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}; {advice}") from error
    if not isinstance(records, dict):
        raise DataError(f"{path}: is no JSON object with one entry for each sample; {advice}")
    return records


def _move(source: str, target: str) -> None:
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
