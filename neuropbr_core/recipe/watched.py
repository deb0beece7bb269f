"""Files that decide whether a recipe's networks can be built: where they stay the same, so does the answer."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neuropbr_core
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry.catalog import OWN_DISTRIBUTION
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.shipped import SCHEME


def watched_files(recipe: Recipe, teacher: Recipe | None) -> set[Path] | None:
    """Files and folders that decide whether a recipe's networks can be built, beside the files that it was read from.

    Args:
        recipe: The recipe.
        teacher: The recipe of its teacher, when it makes one.

    Returns:
        The sources of the core and of the components, and whatever the recipes name. Files may be missing. None when
        not all is known: the teacher is there already; a component is not NeuroPBR's own, so that it may import
        sources that nobody watches; or another one has its name, of which each reading of the recipe warns.
    """
    recipes = [recipe]
    if teacher is not None:
        recipes.append(teacher)
    elif recipe.teacher is not None:
        return None
    packages = {Path(neuropbr_core.__file__).parent}
    watched = set[Path]()
    for each in recipes:
        for text in _texts(each.tree):
            # What ships with a component is told by its version, and has no path.
            if text and not text.startswith(SCHEME):
                watched.add(Path(text))
        for component in each.components:
            package = _package(component)
            if package is None:
                return None
            packages.add(package)
    for package in packages:
        watched.update(python_files(package))
    return watched


def _package(component: Chosen) -> Path | None:
    """The file or folder of a component's top-level module; None where it or a namesake is of another distribution."""
    entry = component.declared
    source = entry.source()
    namesakes = [other for other in component.registry.entries(entry.kind) if other.name == entry.name]
    if source is None or {other.distribution for other in namesakes} != {OWN_DISTRIBUTION}:
        return None
    depth = entry.module.count(".")
    if source.name == "__init__.py":
        return source.parents[depth]
    if depth == 0:
        return source
    return source.parents[depth - 1]


def python_files(package: Path) -> Iterator[Path]:
    """The Python files of a package or module, behind links, too.

    A file that is new changes nothing before another one imports it.

    Args:
        package: The folder of a package, or the file of a module.
    """
    if package.is_file():
        yield package
    walked = set()
    for folder, inner, names in os.walk(package, followlinks=True):
        real = os.path.realpath(folder)
        if real in walked:  # a link that leads back
            inner.clear()
            continue
        walked.add(real)
        for name in names:
            if name.endswith(".py"):
                yield Path(folder, name)


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
