"""Writes packages: a new folder, a further component, and updates that leave the author's changes alone."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Literal

from neuropbr_core.errors import ScaffoldError
from neuropbr_core.files import remove, replacing, write_bytes, write_json, write_text
from neuropbr_core.scaffold.package import TEMPLATES, Scaffold, ScaffoldComponent
from neuropbr_core.scaffold.project import (
    PROJECT,
    RECORD,
    Record,
    declared_entry_points,
    read_record,
    read_scaffold,
    with_entry_point,
)

NEW = ".new"
"""Suffix of the template's text beside a file that the author changed."""

Action = Literal["written", "current", "yours", "offered", "removed", "retired"]


@dataclass(frozen=True)
class Change:
    """What happened to a file of a package.

    Attributes:
        path: Path below the package's folder.
        action: `written`; `current`, when there was nothing to do; `yours`, when the author changed the file and the
            template has not changed since; `offered`, when both changed and the template's text is in `FILE.new`;
            `removed`, when the author deleted the file; `retired`, when the template has no such file any more.
    """

    path: str
    action: Action


def create(folder: Path, scaffold: Scaffold, templates: Path = TEMPLATES) -> list[Change]:
    """Write a complete package.

    Args:
        folder: The package's folder, which must not exist.
        scaffold: The package.
        templates: Folder of the templates.

    Raises:
        ScaffoldError: There is something of that name already.
        OSError: The folder cannot be written; nothing is left of it.
    """
    _refuse_existing(folder)
    files = scaffold.files(templates)
    record = Record()
    for component in scaffold.components:
        record.components.append((component.kind, component.name))
    with replacing(folder) as aside:
        for path, text in files.items():
            (aside / path).parent.mkdir(parents=True, exist_ok=True)
            (aside / path).write_text(text, encoding="utf-8", newline="\n")
            record.files[path] = _hash(text)
        write_json(aside / RECORD, record)
        # Once more, because another process may have written it meanwhile.
        _refuse_existing(folder)
    return [Change(path, "written") for path in files]


def add(folder: Path, component: ScaffoldComponent, templates: Path = TEMPLATES) -> list[Change]:
    """Add a component to an existing package.

    Args:
        folder: The package's folder, which need not be of this scaffold.
        component: The component.
        templates: Folder of the templates.

    Returns:
        What was written, and which files of the package the author has to change.

    Raises:
        ScaffoldError: It is no package, or has a component or a file of that name.
        OSError: A file cannot be written; the package is as it was.
    """
    record = read_record(folder) or Record()
    scaffold = read_scaffold(folder, record)
    group, value = scaffold.entry_point(component)
    if component.name in declared_entry_points(folder, group):
        raise ScaffoldError(f"{folder / PROJECT}: declares {component} already; choose another name")
    files = scaffold.component_files(component, templates)
    _refuse_taken(folder, files, folder / scaffold.source / scaffold.module / component.name)
    before = scaffold.package_files(templates)
    # It is in the record already when the author has removed it from the package.
    key = (component.kind, component.name)
    if key not in record.components:
        record.components.append(key)
    after = read_scaffold(folder, record).package_files(templates)
    # Files of the whole package that name its components: rewritten where the author left them alone.
    changes = []
    project = (folder / PROJECT).read_bytes().decode()
    shared: dict[str, str] = {}
    declared = with_entry_point(project, group, component.name, value)
    for path, text in after.items():
        if text == before[path] or path not in record.files:
            continue
        if _hash_of(folder / path) == record.files[path]:
            if path == PROJECT:
                declared = text
            else:
                shared[path] = text
            record.files[path] = _hash(text)
        else:
            # The author adds the component to such a file, so that the next update has nothing to offer; unless the
            # template has changed too, or the author has yet to merge an earlier offer.
            known = (record.files[path], record.offered.get(path))
            if _hash(before[path]) in known and not os.path.lexists(folder / (path + NEW)):
                record.offered[path] = _hash(text)
            if path != PROJECT:
                changes.append(Change(path, "yours"))
    # The entry point comes last: from then on the component is there.
    shared[PROJECT] = declared
    earlier = {path: (folder / path).read_bytes() for path in shared}
    try:
        for path, text in files.items():
            write_text(folder / path, text)
            record.files[path] = _hash(text)
        for path, text in shared.items():
            write_text(folder / path, text)
        write_json(folder / RECORD, record)
    except BaseException:
        _take_back(folder, files, earlier)
        raise
    return [Change(path, "written") for path in [*files, *shared]] + changes


def update(folder: Path, *, dry_run: bool = False, templates: Path = TEMPLATES) -> list[Change]:
    """Bring a package up to the current template, and leave alone what its author changed.

    Args:
        folder: The package's folder.
        dry_run: Whether to write nothing.
        templates: Folder of the templates.

    Returns:
        What happened to each file, or would happen.

    Raises:
        ScaffoldError: The package has no record, or its record is damaged.
        OSError: A file cannot be written. The update can be repeated.
    """
    record = read_record(folder)
    if record is None:
        raise ScaffoldError(
            f"{folder}: has no {RECORD}, so it is not known which of its files are as `neuropbr plugin new` wrote them"
        )
    scaffold = read_scaffold(folder, record)
    files = {}
    # The record of a package of somebody else has only the components that were added to it.
    if PROJECT in record.files:
        files = scaffold.package_files(templates)
    for component in scaffold.components:
        files |= scaffold.component_files(component, templates)
    changes = []
    for path, text in files.items():
        action = _due(folder, path, text, record)
        changes.append(Change(path, action))
        if dry_run or action in ("yours", "removed"):
            continue
        if action == "offered":
            _offer(folder, path, text, record)
        else:
            if action == "written":
                write_text(folder / path, text)
            # Also of a file that is as the template wants it because the author took over what was offered.
            record.files[path] = _hash(text)
        # After each file, so that an update that is interrupted can go on.
        write_json(folder / RECORD, record)
    for path in record.files:
        if path not in files and (folder / path).exists():
            changes.append(Change(path, "retired"))
    if not dry_run:
        write_json(folder / RECORD, record)
    return changes


def _due(folder: Path, path: str, text: str, record: Record) -> Action:
    """What an update has to do with a file."""
    place = folder / path
    present = _hash_of(place)
    template = _hash(text)
    if present == template:
        return "current"
    if not os.path.lexists(place):
        if path in record.files:
            return "removed"
        return "written"
    # Links and folders have no hash, and neither has a file that is not in the record.
    if present is not None and present == record.files.get(path):
        return "written"
    # The template's text is one that the author has had before: as written, or as offered.
    if template in (record.files.get(path), record.offered.get(path)):
        return "yours"
    return "offered"


def _offer(folder: Path, path: str, text: str, record: Record) -> None:
    """Write the template's text beside a file that the author changed."""
    place = folder / (path + NEW)
    present = _hash_of(place)
    # An earlier offer may be replaced, also one of an update that was killed before it was recorded; anything else of
    # that name is the author's.
    expected = (record.offered.get(path), _hash(text))
    if os.path.lexists(place) and (present is None or present not in expected):
        raise ScaffoldError(f"{place}: is there already, and not as `neuropbr plugin update` wrote it; move it away")
    write_text(place, text)
    record.offered[path] = _hash(text)


def _take_back(folder: Path, added: Iterable[str], earlier: Mapping[str, bytes]) -> None:
    """Remove the files that were added to a package, and restore those that were changed."""
    for path in added:
        remove(folder / path)
    for path, content in earlier.items():
        # A full disk has no room for what has not changed either, but then that file is still there.
        if (folder / path).read_bytes() != content:
            write_bytes(folder / path, content)


def _refuse_existing(folder: Path) -> None:
    if os.path.lexists(folder):
        raise ScaffoldError(
            f"{folder}: is there already, and nothing is overwritten; choose another --output or --package, or add to "
            f"the package with --into {folder}"
        )


def _refuse_taken(folder: Path, files: Iterable[str], module: Path) -> None:
    """Refuse a component whose files, or whose module, the author's package has already."""
    for path in files:
        if os.path.lexists(folder / path):
            raise ScaffoldError(f"{folder / path}: is there already; choose another name for the component")
    # The component is a package, which Python would import in place of a module of its name.
    for suffix in all_suffixes():
        hidden = module.with_name(f"{module.name}{suffix}")
        if os.path.lexists(hidden):
            raise ScaffoldError(f"{hidden}: would be hidden by the component; choose another name for it")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_of(path: Path) -> str | None:
    """SHA-256 of a file's text; None for everything that is no ordinary file, such as a link, which the author made."""
    if path.is_symlink() or not path.is_file():
        return None
    # Git may have checked the file out with the line ends of Windows.
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
