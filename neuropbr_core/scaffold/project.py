"""What a package says about itself: `pyproject.toml`, and the record of what the scaffold wrote."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from neuropbr_core.errors import ScaffoldError
from neuropbr_core.reading import read_bytes, read_json
from neuropbr_core.scaffold.names import check_component_name, check_kind, module_name
from neuropbr_core.scaffold.package import Scaffold, ScaffoldComponent

PROJECT = "pyproject.toml"
RECORD = ".neuropbr-plugin.json"
"""Which files the scaffold wrote, with their hashes; `plugin update` goes by it."""


class Record(msgspec.Struct):
    """What the scaffold wrote into a package.

    Attributes:
        components: Kind and name of each component that it wrote.
        files: SHA-256 of each file as it was written, by its path below the package's folder.
        offered: SHA-256 of each newer text that was written to `FILE.new`, because the author had changed `FILE`.
    """

    components: list[tuple[str, str]] = []
    files: dict[str, str] = {}
    offered: dict[str, str] = {}


def read_record(folder: Path) -> Record | None:
    """Read a package's record; None when there is none.

    Raises:
        ScaffoldError: The record is damaged, or names components that cannot be.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    record = read_json(path, Record, ScaffoldError, "restore it from your version control, or delete it")
    for kind, name in record.components:
        # The names become paths, so they are checked like those of the command line.
        check_kind(kind)
        check_component_name(name)
    return record


def read_project(folder: Path) -> dict[str, Any]:
    """Read a package's `pyproject.toml`.

    Raises:
        ScaffoldError: There is none, it is damaged, or it has no table `project` with a name.
    """
    path = folder / PROJECT
    try:
        content = read_bytes(path).decode()
        project = tomllib.loads(content).get("project")
    except OSError as error:
        raise ScaffoldError(f"{path}: cannot be read ({error.strerror}); name the folder of a package") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScaffoldError(f"{path}: is not TOML: {error}") from error
    if not isinstance(project, dict) or not isinstance(project.get("name"), str):
        raise ScaffoldError(f"{path}: has no table [project] with a name, in which entry points could be declared")
    return project


def read_scaffold(folder: Path, record: Record) -> Scaffold:
    """Read what the templates need to know about an existing package.

    Raises:
        ScaffoldError: The package's name is unusable, or its import package is not where it belongs.
    """
    distribution = read_project(folder)["name"]
    module = module_name(distribution)
    components = tuple(ScaffoldComponent(kind, name) for kind, name in record.components)
    for source in ("", "src"):
        if (folder / source / module).is_dir():
            return Scaffold(distribution, module, components, source)
    raise ScaffoldError(
        f"{folder}: has neither a folder {module} nor src/{module}, which is where the components of the distribution "
        f"{distribution} belong"
    )


def declared_entry_points(folder: Path, group: str) -> dict[str, str]:
    """The entry points of a group that `pyproject.toml` declares.

    Raises:
        ScaffoldError: There is no readable `pyproject.toml`, or its entry points are no tables.
    """
    groups = read_project(folder).get("entry-points", {})
    if not isinstance(groups, dict):
        raise ScaffoldError(
            f"{folder / PROJECT}: project.entry-points is no table; write tables such as "
            f'[project.entry-points."{group}"]'
        )
    points = groups.get(group, {})
    if not isinstance(points, dict):
        raise ScaffoldError(
            f'{folder / PROJECT}: project.entry-points."{group}" is no table; write a table of lines such as '
            f'name = "package.module"'
        )
    return points


def with_entry_point(text: str, group: str, name: str, value: str) -> str:
    """Add an entry point to the text of a `pyproject.toml`, and change nothing else in it.

    Args:
        text: The text.
        group: Group of the entry point.
        name: Its name.
        value: Its value.

    Raises:
        ScaffoldError: The file declares entry points in a form that has no place for a further line.
    """
    line = f'{name} = "{value}"\n'
    title = re.escape(group)
    header = re.compile(rf"^\[\s*project\s*\.\s*entry-points\s*\.\s*(\"{title}\"|'{title}')\s*\][^\n]*\n", re.MULTILINE)
    if not text.endswith("\n"):
        text += "\n"
    match = header.search(text)
    if match:
        changed = text[: match.end()] + line + text[match.end() :]
    else:
        changed = f'{text}\n[project.entry-points."{group}"]\n{line}'
    expected = tomllib.loads(text)
    expected.get("project", {}).setdefault("entry-points", {}).setdefault(group, {})[name] = value
    # Read again, because the header may be part of a longer text, or the table may be written in another form.
    try:
        is_right = tomllib.loads(changed) == expected
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise ScaffoldError(
            f"{PROJECT}: declares its entry points in a form that is not understood; add {line.strip()} to the table "
            f'[project.entry-points."{group}"] yourself'
        )
    return changed
