"""Which recipes' networks were built without a fault before, so that a check need not load PyTorch to build them again.

Building the networks of a recipe takes seconds, most of them for importing PyTorch. What the answer depends on is known
in milliseconds: the recipe and the files that it names, the sources of the core and of the components, and what is
installed. The digest of all this is kept for each recipe that passed. One that failed is built again.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import neuropbr_core
from neuropbr_core.recipe.loading import Resolved
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry.catalog import OWN_DISTRIBUTION
from neuropbr_core.registry.installed import Entry
from neuropbr_core.user_data import is_remembered, remember

_BUILT = "built.txt"

_UNBUILT = ("name", "description", "optimizer", "observers")
"""Sections that have no part in building networks, losses and exporters."""


def build_digest(resolved: Resolved, teacher: Recipe | None) -> str | None:
    """A digest of all that decides whether a recipe's networks can be built.

    Args:
        resolved: The recipe.
        teacher: The recipe of its teacher, when it makes one.

    Returns:
        SHA-256 in hexadecimal; None when not all is known: the teacher is there already, or a component is not
        NeuroPBR's own, so that it may import sources that nobody watches.
    """
    recipes = [resolved.recipe]
    if teacher is not None:
        recipes.append(teacher)
    elif resolved.recipe.teacher is not None:
        return None
    packages = {Path(neuropbr_core.__file__).parent}
    trees = []
    for recipe in recipes:
        trees.append({key: section for key, section in recipe.tree.items() if key not in _UNBUILT})
        for component in recipe.components:
            package = _package(component.declared)
            if package is None:
                return None
            packages.add(package)
    facts = {
        "python": sys.version,
        # Installing and removing a distribution changes the folder that it is in.
        "installed": [(folder, _state(Path(folder))) for folder in sys.path],
        "sources": [_sources(package) for package in sorted(packages)],
        "recipes": trees,
        "files": [(text, _state(Path(text))) for text in _texts(trees)],
    }
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


def was_built(digest: str | None) -> bool:
    """Whether the recipe of this `build_digest` passed before."""
    return digest is not None and is_remembered(_BUILT, digest)


def remember_built(digest: str | None, name: str) -> None:
    """Note that the recipe of this `build_digest` passed; where nothing can be written, it is built again next time.

    Args:
        digest: As `build_digest` returned it before the recipe was built.
        name: How the user named the recipe.
    """
    if digest is not None and not was_built(digest):
        with suppress(OSError, RuntimeError):
            remember(_BUILT, digest, name)


def _package(entry: Entry) -> Path | None:
    """The file or folder of a component's top-level module; None for a component of another distribution."""
    source = entry.source()
    if source is None or entry.distribution != OWN_DISTRIBUTION:
        return None
    depth = entry.module.count(".")
    if source.name == "__init__.py":
        return source.parents[depth]
    if depth == 0:
        return source
    return source.parents[depth - 1]


def _sources(package: Path) -> list[tuple[str, Any]]:
    """Paths and states of the Python files of a package or module, behind links, too."""
    if package.is_file():
        return [(str(package), _state(package))]
    states = []
    walked = set()
    for folder, inner, names in os.walk(package, followlinks=True):
        real = os.path.realpath(folder)
        if real in walked:  # a link that leads back
            inner.clear()
            continue
        walked.add(real)
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)  # noqa: PTH118 - of texts, several hundred of them
                states.append((path, _state(path)))
    return sorted(states)


def _state(path: Path | str) -> tuple[int, int] | None:
    """Time of the last change in nanoseconds and size in bytes; None for what is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 - of texts, several hundred of them
    except (OSError, ValueError):  # ValueError: a text with a zero byte
        return None
    return status.st_mtime_ns, status.st_size


def _texts(plain: Any) -> Iterator[str]:
    """All texts in plain data, any of which may be a path."""
    match plain:
        case str():
            yield plain
        case dict():
            for value in plain.values():
                yield from _texts(value)
        case list():
            for value in plain:
                yield from _texts(value)
