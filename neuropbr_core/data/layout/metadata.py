"""`input/render_metadata.json`: which material each sample shows."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_FORMAT = 'it must be a JSON object from sample folders to material folders, such as {"sample_0000": "wood_oak"}'


def read_metadata(path: Path) -> tuple[dict[str, str] | None, list[str]]:
    """Read the metadata of a dataset.

    Args:
        path: The JSON file.

    Returns:
        The material folder of each sample folder, and an empty list; or None and the reasons why the file is unusable.
    """
    try:
        metadata = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
    except FileNotFoundError:
        return None, [f"{path}: no such file; create it: {_FORMAT.removeprefix('it must be ')}"]
    except (OSError, ValueError) as error:
        return None, [f"{path}: {error}; {_FORMAT}"]
    if not isinstance(metadata, dict):
        return None, [f"{path}: is a JSON {type(metadata).__name__}; {_FORMAT}"]
    problems = []
    for name, material in metadata.items():
        if not _is_folder_name(material):
            problems.append(f"{path}: {name}: {material!r} is not the name of a material folder")
    if problems:
        return None, problems
    return metadata, []


def _without_repeats(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """A JSON object whose keys are all different; of equal keys, Python would silently take the last."""
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"key {name!r} appears {count} times; keep one of them")
    return dict(pairs)


def _is_folder_name(value: object) -> bool:
    """Whether a value names a folder directly below another one: no separator and no step upwards."""
    return isinstance(value, str) and value not in ("", ".", "..") and not set(value) & set("/\\\0")
