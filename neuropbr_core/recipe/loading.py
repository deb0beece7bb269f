"""From a recipe file to a frozen, typed `Recipe`."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropbr_core.errors import PluginError, RecipeError
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.recipe.check import Checked, check_tree, plain
from neuropbr_core.recipe.merge import OWN, read_tree
from neuropbr_core.recipe.node import Keys, Node
from neuropbr_core.recipe.schema import section_order
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.recipe.slots import USE
from neuropbr_core.recipe.text import dump
from neuropbr_core.registry import Chosen
from neuropbr_core.shipped import SCHEME, resolve

if TYPE_CHECKING:
    from neuropbr_core.registry import Registry

_NO_NAME = re.compile(r"^-|[^A-Za-z0-9_-]+")
"""What a file's name may have and a recipe's name may not."""

_TEACHERS_RECIPE = ("teacher", "recipe")

DIRTY_ONLY = 2
"""The render curriculum that `data.use_dirty` stands for."""


@dataclass(frozen=True)
class Resolved:
    """A checked recipe with where its values came from.

    Attributes:
        recipe: The recipe.
        root: The merged tree that it was made from, with places; defaults are not in it.
    """

    recipe: Recipe
    root: Node

    def origin(self, keys: Keys) -> str:
        """Where the value at `keys` of `recipe.tree` came from: `FILE:LINE`, a command-line flag, or `default`."""
        node = self.root.at(keys)
        if node is None and keys[-1] == USE and (entry := self.root.at(keys[:-1])) is not None:
            node = replace(entry, place=entry.key)
        if node is None or node.place is None:
            return "default"
        return node.place.words or f"{self._names[node.place.file]}:{node.place.line}"

    @cached_property
    def _names(self) -> dict[str, str]:
        """What to call each file: its name, or its path where another has the same name."""
        files = self.root.files()
        names = Counter(Path(file).name for file in files)
        return {file: Path(file).name if names[Path(file).name] == 1 else file for file in files}


def load_recipe(path: str | Path, overrides: Sequence[str] = (), registry: "Registry | None" = None) -> Recipe:
    """Load and check a recipe.

    Args:
        path: The recipe file, or a `neuropbr:` reference such as `neuropbr:teacher_default`.
        overrides: `key.path=value` texts, as after `--set`; the value is YAML, later ones win.
        registry: Where components come from; default: the installed ones.

    Returns:
        The recipe. Its `tree`, written with `dump_recipe`, loads as an equal recipe again.

    Raises:
        RecipeError: The recipe is wrong; all problems at once.
    """
    return resolve_recipe(path, overrides, registry).recipe


def resolve_recipe(path: str | Path, overrides: Sequence[str] = (), registry: "Registry | None" = None) -> Resolved:
    """Like `load_recipe`, but keep where every value came from.

    Raises:
        RecipeError: The recipe is wrong; all problems at once.
    """
    registry = registry or _default_registry()

    def qualify(kind: Kind, use: str) -> str:
        try:
            return registry.find(kind.name, use).qualified
        except PluginError:
            return use

    root, problems = read_tree(path, overrides, qualify)
    root = _with_teacher_beside(_with_curriculum(root))
    checked = check_tree(root, registry, problems)
    if checked.problems:
        raise RecipeError(checked.problems)
    return Resolved(_recipe(resolve(str(path)).stem, root, checked), root)


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe out as YAML, with every default and every component's distribution."""
    return dump(recipe.tree)


def _default_registry() -> "Registry":
    from neuropbr_core.registry import default_registry

    return default_registry()


def _with_curriculum(root: Node) -> Node:
    """Read `data.use_dirty` as the render curriculum that it is the older name of."""
    data = root.mapping(("data",))
    dirty = data.get("use_dirty")
    if dirty is None or dirty.value is not True:
        return root
    meant = replace(dirty, value=DIRTY_ONLY)
    section = replace(root.value["data"], value={**data, "render_curriculum": meant})
    return replace(root, value={**root.value, "data": section})


def _with_teacher_beside(root: Node) -> Node:
    """Read `teacher.recipe` relative to the file that says it, as `extends` is; a recipe written out is found again."""
    node = root.at(_TEACHERS_RECIPE)
    if node is None or not isinstance(node.value, str) or node.value.startswith(SCHEME):
        return root
    folder = Path() if node.place is None or node.place.words else Path(node.place.file).parent
    meant = replace(node, value=os.path.abspath(folder / node.value))  # noqa: PTH100 - links are left as they are
    section = root.value["teacher"]
    section = replace(section, value={**section.value, "recipe": meant})
    return replace(root, value={**root.value, "teacher": section})


def _recipe(stem: str, root: Node, checked: Checked) -> Recipe:
    name = str(root.value["name"].value if "name" in root.value else _NO_NAME.sub("_", stem))
    parts: dict[str, Any] = dict(checked.sections)
    for kind in KINDS.values():
        if kind.section and kind.many:
            parts[kind.section[-1]] = {n: checked.components[(*kind.section, n)] for n in root.mapping(kind.section)}
        elif kind.section:
            parts[kind.section[-1]] = checked.components[kind.section]
    labels = {"name": name, **{key: root.value[key].value for key in OWN if key in root.value}}
    return Recipe(name=name, tree={**labels, **_tree(checked)}, **parts)


def _tree(checked: Checked) -> dict[str, Any]:
    """The resolved recipe as plain data, sections in their order."""
    tree: dict[str, Any] = {name: {} for name in section_order()}
    for keys, component in checked.components.items():
        _mapping(tree, keys).update(_entry(component))
    for name, section in checked.sections.items():
        tree[name] = None if section is None else {**tree[name], **plain(section)}
    return tree


def _entry(component: Chosen) -> dict[str, Any]:
    return {USE: component.use, **plain(component.entry), **plain(component.options)}


def _mapping(tree: dict[str, Any], keys: Keys) -> dict[str, Any]:
    for key in keys:
        tree = tree.setdefault(str(key), {})
    return tree
