"""A recipe file, what it extends, and the overrides on top of it, as one tree in which every value keeps its place.

- Mappings merge key by key; everything else, lists too, is replaced.
- An entry that names another component than the inherited one replaces it whole: options of the one mean nothing to the
  other.
- `null` removes an inherited entry of a mapping of components.
- A mapping of components that has a default (`SECTION_DEFAULTS`) is inherited as if it had been written out, and so is
  the component of a slot that has one (`Kind.default`).
"""

import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from neuropbr_core.errors import NeuroPBRError, Problem, RecipeError
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.recipe.node import Keys, Node, Place
from neuropbr_core.recipe.overrides import parse_override
from neuropbr_core.recipe.slots import USE, entry_use, kind_at
from neuropbr_core.recipe.source import parse, read_file
from neuropbr_core.shipped import SCHEME, recipe_names, resolve

EXTENDS = "extends"
MAX_FILES = 64

OWN = ("name", "description")
"""Keys that describe one file and are not inherited."""

SECTION_DEFAULTS: dict[str, tuple[str, ...]] = {
    "observers": ("progress", "journal", "grid", "tensorboard"),
    "export": (),
}
"""Mappings of components that a recipe may leave out, and what stands in them then, each with its default options."""

Qualify = Callable[[Kind, str], str]
"""Turns the name of a component into `distribution:name`, or returns it as it is when there is none."""


def read_tree(path: str | Path, overrides: Sequence[str], qualify: Qualify) -> tuple[Node, list[Problem]]:
    """Read a recipe, what it extends, and the overrides.

    Args:
        path: The recipe file, or a `neuropbr:` reference to one that ships.
        overrides: `key.path=value` texts, later ones winning.
        qualify: Tells whether two names mean one component.

    Returns:
        The merged tree, a mapping, and the problems that do not hinder checking it further.

    Raises:
        RecipeError: A file or an override cannot be read; all such problems, of all files and overrides.
    """
    reader = _Reader(qualify)
    root = reader.top(str(path))
    layers = [reader.override(text, position) for position, text in enumerate(overrides, 1)]
    if reader.fatal:
        raise RecipeError(list(dict.fromkeys(reader.problems)))
    for layer in layers:
        root = replace(reader.overlay(_with_defaults(root, layer), layer), place=root.place)
    root = _with_defaults(root, Node({name: Node({}) for name in SECTION_DEFAULTS}))
    for slot in _default_slots():
        root = reader.overlay(slot, root)
    return root, list(dict.fromkeys([*reader.problems, *_idle_removals(root)]))


def merge_overrides(root: Node, overrides: Sequence[str], qualify: Qualify) -> tuple[Node, list[Problem]]:
    """Lay overrides over a part of a recipe, without the defaults of a whole one.

    Args:
        root: The part, from the recipe's top.
        overrides: `key.path=value` texts, later ones winning.
        qualify: Tells whether two names mean one component.

    Returns:
        The merged tree, and the problems that do not hinder checking it further.

    Raises:
        RecipeError: An override cannot be read.
    """
    reader = _Reader(qualify)
    layers = [reader.override(text, position) for position, text in enumerate(overrides, 1)]
    if reader.fatal:
        raise RecipeError(reader.problems)
    for layer in layers:
        root = reader.overlay(root, layer)
    return root, reader.problems


@dataclass
class _Reader:
    """Reads and merges files; collects problems instead of stopping at the first."""

    qualify: Qualify
    problems: list[Problem] = field(default_factory=list)
    fatal: bool = False
    files: int = 0

    def top(self, reference: str) -> Node:
        """The merged tree of the recipe that the user named."""
        try:
            path = resolve(reference)
        except NeuroPBRError as error:
            return self._give_up(Place(reference, 1, 1).problem((), str(error)))
        shown = _shown(path) if reference.startswith(SCHEME) else reference
        if not path.is_file():
            return self._give_up(Place(shown, 1, 1).problem((), f"there is no such file{_alternative(path)}"))
        return self._file(path, shown, ())

    def override(self, text: str, position: int) -> Node:
        """One override as a tree."""
        try:
            node, problems = parse_override(text, position)
        except RecipeError as error:
            return self._give_up(*error.problems)
        self.problems += problems
        return node

    def overlay(self, base: Node, top: Node, keys: Keys = ()) -> Node:
        """Lay `top` over `base`; both stand at `keys`."""
        if not (isinstance(base.value, dict) and isinstance(top.value, dict)) or self._replaces(base, top, keys):
            return top
        merged = dict(base.value)
        for name, node in top.value.items():
            here = (*keys, name)
            if name in merged and _removes(here, node):
                del merged[name]
            else:
                merged[name] = self.overlay(merged[name], node, here) if name in merged else node
        return Node(merged, top.place, top.key)

    def _replaces(self, base: Node, top: Node, keys: Keys) -> bool:
        """Whether `top` names another component than `base`."""
        kind = kind_at(keys)
        if kind is None or USE not in top.value:
            return False
        old, new = entry_use(kind, keys, base), entry_use(kind, keys, top)
        if old is None or new is None:
            return False
        return self.qualify(kind, old) != self.qualify(kind, new)

    def _file(self, path: Path, shown: str, chain: tuple[tuple[Path, str], ...]) -> Node:
        """The tree of one file, laid over what it extends."""
        self.files += 1
        try:
            root, problems = parse(read_file(path, shown), shown)
        except RecipeError as error:
            return self._give_up(*error.problems)
        self.problems += problems
        if not isinstance(root.value, dict):
            return self._give_up(_no_mapping(root, shown))
        extends = root.value.get(EXTENDS)
        root = Node({key: node for key, node in root.value.items() if key != EXTENDS}, root.place)
        chain = (*chain, (path.resolve(), shown))
        merged: Node | None = None
        for reference in self._references(extends):
            below = self._extended(reference, path, shown, chain)
            merged = below if merged is None else self.overlay(_with_defaults(merged, below), below)
        if merged is None:
            return root
        return self.overlay(_with_defaults(_inherited(merged), root), root)

    def _references(self, extends: Node | None) -> list[Node]:
        """The recipes that `extends` lists."""
        if extends is None:
            return []
        entries = extends.value if isinstance(extends.value, list) else [extends]
        bad = [node for node in entries if not isinstance(node.value, str) or not node.value]
        for node in bad:
            self._give_up((node.place or Place("", 1, 1)).problem((EXTENDS,), _EXTENDS_FORM))
        return [node for node in entries if node not in bad]

    def _extended(self, reference: Node, path: Path, shown: str, chain: tuple[tuple[Path, str], ...]) -> Node:
        """The tree of a file named in `extends`."""
        place = reference.place or Place(shown, 1, 1)
        try:
            target, name = _relative(reference.value, path, shown)
        except NeuroPBRError as error:
            return self._give_up(place.problem((EXTENDS,), str(error)))
        if not target.is_file():
            return self._give_up(place.problem((EXTENDS,), f"there is no file `{name}`{_alternative(target)}"))
        real = target.resolve()
        if real in (file for file, _ in chain):
            circle = " -> ".join([*(name for _, name in chain), name])
            return self._give_up(place.problem((EXTENDS,), f"extends itself: {circle}"))
        if self.files >= MAX_FILES:
            return self._give_up(place.problem((EXTENDS,), f"more than {MAX_FILES} files are extended in all"))
        return self._file(target, name, chain)

    def _give_up(self, *problems: Problem) -> Node:
        self.problems += problems
        self.fatal = True
        return Node({})


_EXTENDS_FORM = "is a path, relative to this file, or `neuropbr:NAME`; or a list of these"


def _relative(reference: str, path: Path, shown: str) -> tuple[Path, str]:
    """The file that `reference` means in the recipe `path`, and how problems name it."""
    if reference.startswith(SCHEME):
        target = resolve(reference)
        return target, _shown(target)
    # Both keep the user's way of writing; `Path` would not fold `a/../b`.
    return path.parent / reference, os.path.normpath(os.path.join(os.path.dirname(shown), reference))  # noqa: PTH118, PTH120


def _shown(path: Path) -> str:
    """How problems name a recipe that ships: relative to the current directory when it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _alternative(path: Path) -> str:
    """A hint at a recipe that may have been meant instead of the missing `path`."""
    if path.stem in recipe_names() and len(path.parts) == 1:
        return f"; the recipe that ships is `{SCHEME}{path.stem}`"
    near = path.parent.glob("*.y*ml") if path.parent.is_dir() else ()
    matches = difflib.get_close_matches(path.name, [file.name for file in near], 1)
    return f"; did you mean `{path.parent / matches[0]}`?" if matches else ""


def _no_mapping(root: Node, shown: str) -> Problem:
    place = root.place or Place(shown, 1, 1)
    what = "is empty" if root.value is None else "is no mapping"
    return place.problem((), f"the recipe {what}; it needs sections such as `model:` and `losses:`")


def _inherited(root: Node) -> Node:
    return Node({key: node for key, node in root.value.items() if key not in OWN}, root.place)


def _with_defaults(base: Node, top: Node) -> Node:
    """`base` with the defaults of those sections that `top` has and `base` leaves out."""
    missing = {
        section: Node({name: Node({}) for name in names})
        for section, names in SECTION_DEFAULTS.items()
        if section in top.value and section not in base.value
    }
    return Node({**base.value, **missing}, base.place) if missing else base


def _default_slots() -> Iterator[Node]:
    """For each slot that has a default, a recipe that says only that."""
    for kind in KINDS.values():
        if kind.default is not None:
            node = Node({USE: Node(kind.default)})
            for key in reversed(kind.section):
                node = Node({key: node})
            yield node


def _removes(keys: Keys, node: Node) -> bool:
    kind = kind_at(keys)
    return node.value is None and kind is not None and kind.many


def _idle_removals(root: Node) -> list[Problem]:
    """Entries that are still null: there was nothing to remove."""
    entries = [(*kind.section, name) for kind in KINDS.values() if kind.many for name in root.mapping(kind.section)]
    return [_idle_removal(root, keys) for keys in entries if _removes(keys, root.mapping(keys[:-1])[keys[-1]])]


def _idle_removal(root: Node, keys: Keys) -> Problem:
    message = f"null removes an inherited entry, but none is inherited; for default options write `{keys[-1]}: {{}}`"
    return root.place_of(keys, key=True).problem(keys, message)
