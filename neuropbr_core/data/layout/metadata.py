"""`input/render_metadata.json` names the material that each sample shows."""

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
        # The standard library's parser, because others offer no hook that sees a key that is there twice.
        metadata = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
    except FileNotFoundError:
        return None, [f"{path}: no such file; create it: {_FORMAT.removeprefix('it must be ')}"]
    except (OSError, ValueError) as error:
        return None, [f"{path}: {error}; {_FORMAT}"]
    if not isinstance(metadata, dict):
        return None, [f"{path}: is a JSON {type(metadata).__name__}; {_FORMAT}"]
    problems = []
    for name, material in metadata.items():
        # A file from a stranger must not make us read, or the quarantine move, a folder outside the dataset.
        is_text = isinstance(material, str)
        if not is_text or material in ("", ".", "..") or set(material) & set("/\\\0"):
            problems.append(f"{path}: {name}: {material!r} is not the name of a material folder")
    if problems:
        return None, problems
    return metadata, []


def _without_repeats(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Build a JSON object and refuse a repeated key, of which Python would silently keep the last entry."""
    counts = Counter[str]()
    for name, _ in pairs:
        counts[name] += 1
    for name, count in counts.items():
        if count > 1:
            raise ValueError(f"key {name!r} appears {count} times; keep one of them")
    return dict(pairs)
