"""From a recipe file to a frozen, typed `Recipe`: read and merge, check, assemble.

The recipe of a recipe's teacher is loaded here too, and so are single entries that a command names itself.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropbr_core.errors import PluginError, Problem, RecipeError
from neuropbr_core.kinds import Kind, recipe_kinds
from neuropbr_core.recipe.check import Checked, check_entries, check_tree, plain
from neuropbr_core.recipe.merge import OWN, PLUGINS, USE, Override, merge_overrides, read_tree
from neuropbr_core.recipe.schema import owned_options, section_order
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.recipe.yaml_tree import Keys, Node, Place, dump, flow
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.shipped import SCHEME, resolve

if TYPE_CHECKING:
    from neuropbr_core.registry.catalog import Registry

_NO_NAME = re.compile(r"^-|[^A-Za-z0-9_-]+")
"""Characters that a file's name may have and a recipe's name may not."""

_DIRTY_ONLY = 2
"""The render curriculum that `data.use_dirty` stands for."""

_SHARED = ("source", "root", "input_dir", "output_dir", "metadata", "synthesize", "pack")
"""Keys of `data` that a teacher takes over from its student: where samples are."""

_PLACES = ("device", "devices", "runs_dir")
"""Keys of `training` that a teacher takes over from its student: where to train and where runs go."""


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
        place = None
        node = self.root.at(keys)
        if node is not None:
            place = node.place
        elif keys[-1] == USE:
            # Where an entry has no `use`, its key names the component.
            entry = self.root.at(keys[:-1])
            if entry is not None:
                place = entry.key
        if place is None:
            return "default"
        return place.words or f"{self._names[place.file]}:{place.line}"

    @cached_property
    def _names(self) -> dict[str, str]:
        """How to call each file: its name, or its path where another has the same name."""
        files = self.root.files()
        counts = Counter(Path(file).name for file in files)
        names = {}
        for file in files:
            names[file] = Path(file).name
            # Short names where they are clear: listings show one beside every value.
            if counts[names[file]] > 1:
                names[file] = file
        return names


def load_recipe(
    path: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    registry: "Registry | None" = None,
    *,
    plugin_files: bool = True,
) -> Recipe:
    """Load and check a recipe.

    Args:
        path: The recipe file, a `neuropbr:` reference such as `neuropbr:teacher_default`, or the recipe as nested
            mappings, whose paths are relative to the working directory. Without `name`, its name is `recipe`.
        overrides: `key.path=value` texts, as after `--set`; the value is YAML, later ones win.
        registry: Where components come from; default: the installed ones.
        plugin_files: Whether the files in `plugins`, which are programs, may be run. Without it, the recipe loads only
            when the registry offers their components already.

    Returns:
        The recipe. Its `tree`, written with `dump_recipe`, loads as an equal recipe again.

    Raises:
        RecipeError: The recipe is wrong; all problems at once.
    """
    return resolve_recipe(path, overrides, registry, plugin_files=plugin_files).recipe


def resolve_recipe(
    path: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    registry: "Registry | None" = None,
    *,
    plugin_files: bool = True,
) -> Resolved:
    """Like `load_recipe`, but keep where every value came from.

    Raises:
        RecipeError: The recipe is wrong; all problems at once.
    """
    registry = registry or default_registry()

    def qualify(kind: Kind, use: str) -> str:
        # A name that means nothing is left as it is; the check reports it with its place.
        try:
            return registry.find(kind.name, use).qualified
        except PluginError:
            return use

    def owners(kind: Kind, use: str) -> Mapping[str, tuple[str, object]]:
        try:
            owned = owned_options(registry.options(kind.name, use))
        except PluginError:
            return {}
        owners = {}
        for option, (owner, default) in owned.items():
            # As plain data, which a recipe's own value is: a tuple of the dataclass is a list there.
            if default is MISSING:
                owners[option] = (owner, default)
            else:
                owners[option] = (owner, plain(default))
        return owners

    root, problems = read_tree(path, overrides, qualify, owners)
    # Read again once its plugin files are known: merging asks whether two names mean one component.
    unusable = None
    if plugin_files:
        unusable = _add_plugin_files(root, registry)
    if unusable is not None:
        root, problems = read_tree(path, overrides, qualify, owners)
        problems += unusable
    # On the merged tree and before the check: both replace values, and keep their places for its messages.
    root = _with_teacher_beside(_with_curriculum(root))
    checked = check_tree(root, registry, problems)
    if checked.problems:
        raise RecipeError(checked.problems)
    stem = "recipe"
    if not isinstance(path, Mapping):
        stem = resolve(str(path)).stem
    return Resolved(_recipe(stem, root, checked), root)


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe out as YAML, with every default and every component's distribution."""
    return dump(recipe.tree)


def teachers_recipe(recipe: Recipe) -> Recipe | None:
    """Load and check the recipe that makes a recipe's teacher.

    Args:
        recipe: The student's recipe.

    Returns:
        The teacher's recipe; None where there is no teacher, or one that must be there.

    Raises:
        RecipeError: It is wrong, `teacher.overrides` are, or it has a teacher itself.
    """
    section = recipe.teacher
    if section is None or section.recipe is None:
        return None
    values: dict[str, Any] = {}
    for key in _SHARED:
        values[f"data.{key}"] = recipe.tree["data"][key]
    # A seeded share is drawn alike by both; materials that the student names must be named to the teacher too.
    if recipe.data.val_materials:
        values["data.val_materials"] = list(recipe.data.val_materials)
    for key in _PLACES:
        values[f"training.{key}"] = getattr(recipe.training, key)
    # Problems quote the student's key, or the override as the section `teacher` has it.
    overrides = []
    for key, value in values.items():
        overrides.append(Override(f"{key}={flow(value)}", f"student's {key}"))
    # The overrides that the user wrote come last and win.
    for text in section.overrides:
        overrides.append(Override(text, f"teacher.overrides {text}"))
    teacher = load_recipe(section.recipe, overrides, recipe.source.registry)
    # A chain of teachers could be circular, and would train for days before the student's first step.
    if teacher.teacher is not None:
        message = "has a teacher itself; train that first, and name teacher.run in its student's recipe"
        raise RecipeError([Problem(section.recipe, 1, 1, "teacher", message)])
    return teacher


def load_entries(
    kind: Kind,
    names: Mapping[str, str],
    overrides: Sequence[str],
    registry: "Registry | None" = None,
    base: Path | None = None,
) -> dict[str, Chosen]:
    """Check entries of components without the rest of a recipe.

    For commands that name components themselves, such as `neuropbr export --to onnx --option opset=20`: their mistakes
    are reported as in a recipe, with what the user wrote, what is allowed and the nearest name.

    Args:
        kind: A kind whose section is a mapping of components.
        names: Names of the entries, each with the words that the user wrote to name it. An entry that `base` does not
            have is of the component of that name. `distribution:name` is the entry `name`, of that component.
        overrides: `section.name.key=value` texts, as after `--set`.
        registry: Where components come from; default: the installed ones.
        base: A recipe file whose entries of these names are started from.

    Returns:
        The components by the names of their entries (`entry_name`).

    Raises:
        RecipeError: Something is wrong with them, or two have one entry; all problems at once.
    """
    words_of: dict[str, str] = {}
    components = []
    repeated = []
    for use, words in names.items():
        name = entry_name(use)
        if name in words_of:
            message = f"is named twice, first as `{words_of[name]}`; name each entry once"
            repeated.append(_words_place(words).problem((*kind.section, name), message))
        words_of[name] = words
        if name != use:
            components.append(Override(f"{'.'.join((*kind.section, name))}.{USE}={use}", words))
    if repeated:
        raise RecipeError(repeated)
    inherited: Mapping[str, Node] = {}
    if base is not None:
        # Problems of the file are left to the command that loads the whole of it; here only its entries count.
        inherited = read_tree(base, (), _as_written)[0].mapping(kind.section)
    entries = {}
    for name, words in words_of.items():
        entries[name] = inherited.get(name, _named(words))
    # Components come first: an option of another component means nothing to this one.
    root, problems = merge_overrides(_nested(kind.section, entries), [*components, *overrides], _as_written)
    # Overrides have moved the entries that they change: problems point again at the words that named an entry.
    entries = dict(root.mapping(kind.section))
    for name, words in words_of.items():
        if name not in inherited:
            entries[name] = replace(entries[name], key=_named(words).key)
    checked = check_entries(_nested(kind.section, entries), registry or default_registry(), problems)
    if checked.problems:
        raise RecipeError(checked.problems)
    return {name: checked.components[(*kind.section, name)] for name in words_of}


def entry_name(use: str) -> str:
    """The name of an entry for a component that is named outside a recipe, as `name` or `distribution:name`."""
    return use.rpartition(":")[2]


def _as_written(kind: Kind, use: str) -> str:  # noqa: ARG001 - a `Qualify` that takes names as they are
    return use


def _named(words: str) -> Node:
    """An empty entry, placed at the words that name it."""
    place = _words_place(words)
    return Node({}, place, place)


def _words_place(words: str) -> Place:
    return Place(words.split(maxsplit=1)[0], 1, 1, words)


def _nested(keys: Keys, entries: dict[str, Node]) -> Node:
    """A tree that has nothing but these entries at `keys`."""
    root = Node(entries)
    for key in reversed(keys):
        root = Node({key: root})
    return root


def _with_curriculum(root: Node) -> Node:
    """Read `data.use_dirty` as the render curriculum that it is the older name of."""
    data = root.mapping(("data",))
    dirty = data.get("use_dirty")
    # Anything but true changes nothing here; values of a wrong type are the schema's to report.
    if dirty is None or dirty.value is not True:
        return root
    curriculum = replace(dirty, value=_DIRTY_ONLY)
    section = replace(root.value["data"], value={**data, "render_curriculum": curriculum})
    return replace(root, value={**root.value, "data": section})


def _with_teacher_beside(root: Node) -> Node:
    """Read `teacher.recipe` relative to the file that has it, as `extends` is; a copy of the recipe still finds it."""
    node = root.at(("teacher", "recipe"))
    if node is None or not isinstance(node.value, str) or node.value.startswith(SCHEME):
        return root
    # On the command line a path is relative to where the user is.
    folder = Path()
    if node.place is not None and not node.place.words:
        folder = Path(node.place.file).parent
    absolute = replace(node, value=os.path.abspath(folder / node.value))  # noqa: PTH100 - links are left as they are
    section = root.value["teacher"]
    section = replace(section, value={**section.value, "recipe": absolute})
    return replace(root, value={**root.value, "teacher": section})


def _add_plugin_files(root: Node, registry: "Registry") -> list[Problem] | None:
    """Offer the components of the files in `plugins`; returns what is wrong with them, None where none is named."""
    node = root.at((PLUGINS,))
    if node is None or not isinstance(node.value, list):
        return None
    problems = []
    for item in node.value:
        # Other types are the schema's to report.
        if not isinstance(item.value, str):
            continue
        place = item.place or Place("", 1, 1)
        # On the command line a path is relative to where the user is.
        folder = Path()
        if not place.words:
            folder = Path(place.file).parent
        try:
            registry.add_file(folder / item.value)
        except PluginError as error:
            problems.append(place.problem((PLUGINS,), str(error)))
    return problems


def _recipe(stem: str, root: Node, checked: Checked) -> Recipe:
    """Assemble the recipe from its checked parts; `stem` is the name of its file."""
    # The name becomes a folder and a part of metric names, so a file's name is made to fit.
    name = _NO_NAME.sub("_", stem)
    if "name" in root.value:
        name = str(root.value["name"].value)
    parts: dict[str, Any] = dict(checked.sections)
    for kind in recipe_kinds():
        if kind.section and kind.many:
            names = root.mapping(kind.section)
            parts[kind.section[-1]] = {entry: checked.components[(*kind.section, entry)] for entry in names}
        elif kind.section:
            parts[kind.section[-1]] = checked.components[kind.section]
    tree: dict[str, Any] = {"name": name}
    for own in OWN:
        if own in root.value:
            tree[own] = root.value[own].value
    # Those that the recipe uses, also when `--plugin` named them: the run's own recipe must load without the option.
    files = {component.declared.file for component in checked.components.values()}
    files.discard("")
    if files:
        tree[PLUGINS] = sorted(files)
    # All names first, so that sections keep their order whichever of the loops below fills them.
    for section_name in section_order():
        tree[section_name] = {}
    for keys, component in checked.components.items():
        entry = tree
        for key in keys:
            entry = entry.setdefault(str(key), {})
        # Every default is written out: a later version with other defaults still resumes the same run.
        entry.update({USE: component.use, **plain(component.entry), **plain(component.options)})
    for section_name, section in checked.sections.items():
        if section is None:
            tree[section_name] = None
        else:
            # Components come first, as in recipes that people write.
            tree[section_name] = {**tree[section_name], **plain(section)}
    return Recipe(name=name, tree=tree, **parts)
