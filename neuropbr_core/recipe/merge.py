"""A recipe file, what it extends, and the overrides on top of it, as one tree in which every value keeps its place.

- Mappings merge key by key; everything else, lists too, is replaced.
- An entry that names another component than the inherited one replaces it whole: options of the one mean nothing to the
  other.
- An empty mapping and `null` clear an inherited mapping: its defaults count again.
- `null`, `off` and `false` remove an inherited entry of a mapping of components.
- Within an entry, an option that belongs to a choice (`plugin.BELONGS_TO`) is not inherited by another choice.
- A mapping of components that has a default (`SECTION_DEFAULTS`) is inherited as if it had been written out, and so is
  the component of a slot that has one (`Kind.default`).
"""

import numbers
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Self, get_origin, get_type_hints

from neuropbr_core.errors import NeuroPBRError, Problem, RecipeError
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.recipe.yaml_tree import Keys, Node, Place, dump, flow, parse, read_file
from neuropbr_core.shipped import SCHEME, recipe_names, resolve
from neuropbr_core.suggestions import nearest

EXTENDS = "extends"
PLUGINS = "plugins"
"""The key that lists plugin files, relative to the recipe."""
USE = "use"
"""The key of an entry that names its component."""
SET = "--set"
MAX_FILES = 64
MAPPING_NAME = "<mapping>"
"""How problems name a recipe that is no file; their lines are those of the recipe written as YAML."""

_OFF = "off"
"""Text that removes an entry, as null does: what people write who want to switch something off."""

OWN = ("name", "description")
"""Keys that describe one file and are not inherited."""

SECTION_DEFAULTS: dict[str, tuple[str, ...]] = {
    "observers": ("progress", "journal", "grid", "tensorboard"),
    "export": (),
}
"""Mappings of components that a recipe may leave out, and their entries then, each with its default options."""

Qualify = Callable[[Kind, str], str]
"""Turns the name of a component into `distribution:name`, or returns it as it is when there is none."""

Owners = Callable[[Kind, str], Mapping[str, tuple[str, object]]]
"""Which options of a component belong to a choice: for each, the option that chooses, and that option's default."""


def no_owners(kind: Kind, use: str) -> Mapping[str, tuple[str, object]]:  # noqa: ARG001 - an `Owners`
    """Take no option for one that belongs to a choice; for trees that are read without their components."""
    return {}


@dataclass(frozen=True)
class Slot:
    """One component that a recipe names.

    Attributes:
        kind: Kind of component.
        keys: The path of its entry.
        use: The component's name as the recipe writes it.
        explicit: Whether the entry says `use`; otherwise its key is the name.
    """

    kind: Kind
    keys: Keys
    use: str
    explicit: bool

    @property
    def name(self) -> str:
        """Instance name: the entry's key."""
        return str(self.keys[-1])

    @property
    def use_keys(self) -> Keys:
        """The path of the value that names the component."""
        if self.explicit:
            return (*self.keys, USE)
        return self.keys


def slots(root: Node) -> Iterator[Slot]:
    """The components that a recipe names, in the order of the kinds. Entries without a usable name are left out."""
    for kind in KINDS.values():
        paths: list[Keys] = []
        if kind.section and kind.many:
            paths = [(*kind.section, name) for name in root.mapping(kind.section)]
        elif kind.section:
            paths = [kind.section]
        for keys in paths:
            entry = root.at(keys)
            if entry is None:
                continue
            use = entry_use(kind, keys, entry)
            if use is not None:
                yield Slot(kind, keys, use, USE in entry.value)


def kind_at(keys: Keys) -> Kind | None:
    """The kind of component whose entry has the path `keys`, or None."""
    # In a mapping of components the last key is the entry's own name.
    for kind in KINDS.values():
        path = keys
        if kind.many:
            path = keys[:-1]
        if kind.section and kind.section == path:
            return kind
    return None


def entry_keys(kind: Kind) -> tuple[str, ...]:
    """Keys of an entry that are the recipe's own, so that no component may have an option of that name."""
    return (USE, *(option.name for option in fields(kind.entry_options)))


def entry_use(kind: Kind, keys: Keys, entry: Node) -> str | None:
    """The component that an entry names: its `use`, or its key in a mapping of components."""
    # Values of wrong types name nothing; the schema reports them.
    if not isinstance(entry.value, dict):
        return None
    if USE in entry.value:
        use = entry.value[USE].value
        if isinstance(use, str):
            return use
    elif kind.many:
        return str(keys[-1])
    return None


class Override(str):
    """The text `key.path=value`, given on top of a recipe, together with what the user wrote to get it.

    A plain `str` is an override too: it counts as given with `--set`.

    Attributes:
        words: The words on the command line, such as `--data ./data`; problems and provenance quote them.
    """

    __slots__ = ("words",)
    words: str

    def __new__(cls, text: str, words: str) -> Self:
        """Keep `words` beside `text`."""
        override = super().__new__(cls, text)
        override.words = words
        return override

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """Let an override be pickled, as launchers of several processes do."""
        return type(self), (str(self), self.words)


def parse_override(text: str, position: int) -> tuple[Node, list[Problem]]:
    """Turn an override into a recipe that says only that.

    Args:
        text: `key.path=value`; the value is YAML.
        position: Its position among the overrides, from 1.

    Returns:
        The nested mapping, and the problems that do not hinder merging it.

    Raises:
        RecipeError: It is not of that form, or its value is not YAML.
    """
    words = f"{SET} {text}"
    if isinstance(text, Override):
        words = text.words
    # Problems show the flag where those of a file show its path.
    flag = words.split(maxsplit=1)[0]
    place = Place(flag, position, 1, words)
    # The first `=` ends the path: keys have none, and values may have several.
    path, equals, yaml_text = text.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        raise RecipeError([place.problem((), "write KEY=VALUE, with a dotted key such as `training.epochs=20`")])
    # Overrides are laid on top when all files have been read, so it is too late to extend another.
    if keys[0] == EXTENDS:
        raise RecipeError([place.problem((EXTENDS,), "can only be written in a recipe file")])
    try:
        node, problems = parse(yaml_text, place.file)
    except RecipeError as error:
        # The parser counts columns from the start of the value; the user sees the whole `key=value`.
        first = error.problems[0]
        at = Place(place.file, place.line, len(path) + 1 + first.column, place.words)
        raise RecipeError([at.problem(keys, first.message)]) from None
    node = _placed(node, place)
    # `a.b=1` becomes {a: {b: 1}}, built from the inside.
    for key in reversed(keys):
        node = Node({key: Node(node.value, node.place, place)}, place)
    return node, [place.problem(keys, problem.message) for problem in problems]


def _placed(node: Node, place: Place) -> Node:
    """The same values, all written at `place`."""
    value = node.value
    if isinstance(value, dict):
        value = {key: _placed(child, place) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_placed(child, place) for child in value]
    return Node(value, place, place)


def read_tree(
    path: str | Path | Mapping[str, Any], overrides: Sequence[str], qualify: Qualify, owners: Owners = no_owners
) -> tuple[Node, list[Problem]]:
    """Read a recipe, what it extends, and the overrides.

    Args:
        path: The recipe file, a `neuropbr:` reference to one that ships, or the recipe as nested mappings.
        overrides: `key.path=value` texts, later ones winning.
        qualify: Tells whether two names mean one component.
        owners: Tells which options belong to a choice.

    Returns:
        The merged tree, a mapping, and the problems that do not hinder checking it further.

    Raises:
        RecipeError: A file or an override cannot be read; all such problems, of all files and overrides.
    """
    reader = _Reader(qualify, owners)
    if isinstance(path, Mapping):
        root = reader.top_mapping(path)
    else:
        root = reader.top(str(path))
    layers = reader.overrides(overrides)
    if reader.fatal:
        raise RecipeError(list(dict.fromkeys(reader.problems)))
    for layer in layers:
        # The root keeps the recipe's place: `check` tells the user's own file from inherited ones by it.
        root = replace(reader.overlay(_with_defaults(root, layer), layer), place=root.place)
    root = _with_defaults(_cleared(root), Node(dict.fromkeys(SECTION_DEFAULTS, Node({}))))
    for kind in KINDS.values():
        if kind.default is not None:
            root = _with_slot(root, kind.section, kind.default)
    problems = list(reader.problems)
    for kind in KINDS.values():
        if kind.many:
            for name, node in root.mapping(kind.section).items():
                keys = (*kind.section, name)
                # Merging drops an entry together with the null that removes it; a null that is left removed nothing.
                if _removes(keys, node):
                    message = f"{flow(node.plain())} removes an inherited entry, but none is inherited; "
                    message += f"for default options write `{name}: {{}}`"
                    problems.append(root.place_of(keys, key=True).problem(keys, message))
    # A file that two others extend is read twice, and so are its problems.
    return root, list(dict.fromkeys(problems))


def merge_overrides(
    root: Node, overrides: Sequence[str], qualify: Qualify, owners: Owners = no_owners
) -> tuple[Node, list[Problem]]:
    """Lay overrides over a part of a recipe, without the defaults of a whole one.

    Args:
        root: The part, from the recipe's top.
        overrides: `key.path=value` texts, later ones winning.
        qualify: Tells whether two names mean one component.
        owners: Tells which options belong to a choice.

    Returns:
        The merged tree, and the problems that do not hinder checking it further.

    Raises:
        RecipeError: An override cannot be read.
    """
    reader = _Reader(qualify, owners)
    layers = reader.overrides(overrides)
    if reader.fatal:
        raise RecipeError(reader.problems)
    for layer in layers:
        root = reader.overlay(root, layer)
    return root, reader.problems


@dataclass
class _Reader:
    """Reads and merges files; collects problems instead of stopping at the first.

    Attributes:
        qualify: Tells whether two names mean one component.
        owners: Tells which options belong to a choice.
        problems: All problems so far.
        fatal: Whether one of them leaves no tree worth checking.
        files: Number of files read, which bounds what `extends` can pull in.
    """

    qualify: Qualify
    owners: Owners
    problems: list[Problem] = field(default_factory=list)
    fatal: bool = False
    files: int = 0

    def top(self, reference: str) -> Node:
        """The merged tree of the recipe that the user named."""
        # A file that the user named has no place in a recipe: its problems are put at its own first line.
        try:
            path = resolve(reference)
        except NeuroPBRError as error:
            return self._give_up(Place(reference, 1, 1).problem((), str(error)))
        shown = reference
        if reference.startswith(SCHEME):
            shown = _shown(path)
        if not path.is_file():
            reason = f"there is no such file{_alternative(path)}"
            if path.exists():
                reason = "is a folder, a pipe or a device, and a recipe's file is needed"
            return self._give_up(Place(shown, 1, 1).problem((), reason))
        return self._file(path, shown, ())

    def top_mapping(self, recipe: Mapping[str, Any]) -> Node:
        """The merged tree of a recipe that is no file; paths in it are relative to the working directory."""
        try:
            tree = plain_data(recipe)
        except RecipeError as error:
            return self._give_up(*error.problems)
        # Written out and parsed, so that one way of checking serves both.
        return self._text(dump(tree), Path.cwd() / MAPPING_NAME, MAPPING_NAME, ())

    def overrides(self, texts: Sequence[str]) -> list[Node]:
        """Each override as a tree."""
        layers = []
        for position, text in enumerate(texts, 1):
            try:
                node, problems = parse_override(text, position)
            # Reading goes on, so that the mistakes of several overrides are reported together.
            except RecipeError as error:
                node = self._give_up(*error.problems)
                problems = []
            self.problems += problems
            layers.append(node)
        return layers

    def overlay(self, base: Node, top: Node, keys: Keys = ()) -> Node:
        """Lay `top` over `base`; both have the path `keys`."""
        if not (isinstance(base.value, dict) and isinstance(top.value, dict)) or self._replaces(base, top, keys):
            return top
        # What is written as empty is meant as empty: there would be no other way to drop what is inherited.
        if not top.value and keys:
            return top
        # Copied, since nodes are never changed in place: aliases and files that are read twice share them.
        merged = dict(base.value)
        for option in self._of_other_choices(base, top, keys):
            del merged[option]
        for name, node in top.value.items():
            here = (*keys, name)
            if name not in merged:
                merged[name] = node
            elif _removes(here, node):
                del merged[name]
            else:
                merged[name] = self.overlay(merged[name], node, here)
        # The mapping is placed where it was written last, which is where a user would add a missing key.
        return Node(merged, top.place, top.key)

    def _replaces(self, base: Node, top: Node, keys: Keys) -> bool:
        """Whether `top` names another component than `base`."""
        # A layer without `use` changes options of whichever component is inherited.
        kind = kind_at(keys)
        if kind is None or USE not in top.value:
            return False
        old = entry_use(kind, keys, base)
        new = entry_use(kind, keys, top)
        if old is None or new is None:
            return False
        # `name` and `distribution:name` may mean one component, whose options then stay.
        return self.qualify(kind, old) != self.qualify(kind, new)

    def _of_other_choices(self, base: Node, top: Node, keys: Keys) -> Iterator[str]:
        """The options of `base` that belong to another choice than `top` makes."""
        kind = kind_at(keys)
        if kind is None:
            return
        # Both name one component here, and `base` may be the only one that says `use`.
        naming = top if USE in top.value else base
        use = entry_use(kind, keys, naming)
        if use is None:
            return
        for option, (owner, default) in self.owners(kind, use).items():
            if option not in base.value or owner not in top.value:
                continue
            choice = default
            if owner in base.value:
                choice = base.value[owner].plain()
            place = base.value[option].place
            # What the user gave on the command line stays, so that a contradiction there is reported.
            given = place is not None and place.words
            if top.value[owner].plain() != choice and not given:
                yield option

    def _file(self, path: Path, shown: str, chain: tuple[tuple[Path, str], ...]) -> Node:
        """The tree of one file, laid over what it extends; `chain` lists the files that lead to it."""
        # Files are counted and not the depth: a diamond of short chains can read one file many times.
        self.files += 1
        try:
            text = read_file(path, shown)
        except RecipeError as error:
            return self._give_up(*error.problems)
        return self._text(text, path, shown, chain)

    def _text(self, text: str, path: Path, shown: str, chain: tuple[tuple[Path, str], ...]) -> Node:
        """The tree of a file's text; as `_file`."""
        try:
            root, problems = parse(text, shown)
        except RecipeError as error:
            return self._give_up(*error.problems)
        self.problems += problems
        if not isinstance(root.value, dict):
            state = "is no mapping"
            if root.value is None:
                state = "is empty"
            place = root.place or Place(shown, 1, 1)
            message = f"the recipe {state}; it needs sections such as `model:` and `losses:`"
            return self._give_up(place.problem((), message))
        sections = dict(root.value)
        # Taken out, since what a file extends is no part of what it says.
        extends = sections.pop(EXTENDS, None)
        root = Node(sections, root.place)
        chain = (*chain, (path.resolve(), shown))
        merged: Node | None = None
        # Of several files the later one wins, as of several `--set`.
        for reference in self._references(extends):
            below = self._extended(reference, path, shown, chain)
            if merged is None:
                merged = below
            else:
                merged = self.overlay(_with_defaults(merged, below), below)
        if merged is None:
            return root
        inherited_sections = dict(merged.value)
        # A name that was inherited would send the runs of two recipes to folders of one name.
        for key in OWN:
            inherited_sections.pop(key, None)
        inherited = Node(inherited_sections, merged.place)
        return self.overlay(_with_defaults(inherited, root), root)

    def _references(self, extends: Node | None) -> list[Node]:
        """The recipes that `extends` lists."""
        if extends is None:
            return []
        entries = [extends]
        if isinstance(extends.value, list):
            entries = extends.value
        references = []
        for node in entries:
            if isinstance(node.value, str) and node.value:
                references.append(node)
            else:
                message = "is a path, relative to this file, or `neuropbr:NAME`; or a list of these"
                self._give_up((node.place or Place("", 1, 1)).problem((EXTENDS,), message))
        return references

    def _extended(self, reference: Node, path: Path, shown: str, chain: tuple[tuple[Path, str], ...]) -> Node:
        """The tree of a file named in `extends`."""
        place = reference.place or Place(shown, 1, 1)
        if reference.value.startswith(SCHEME):
            try:
                target = resolve(reference.value)
            except NeuroPBRError as error:
                return self._give_up(place.problem((EXTENDS,), str(error)))
            name = _shown(target)
        else:
            # Both keep the user's way of writing; `Path` would not fold `a/../b`.
            target = path.parent / reference.value
            folder = os.path.dirname(shown)  # noqa: PTH120
            name = os.path.normpath(os.path.join(folder, reference.value))  # noqa: PTH118
        if not target.is_file():
            return self._give_up(place.problem((EXTENDS,), f"there is no file `{name}`{_alternative(target)}"))
        # Links are followed only to recognise a circle; messages keep the user's way of writing.
        real = target.resolve()
        real_paths, names = zip(*chain, strict=True)
        if real in real_paths:
            circle = " -> ".join([*names, name])
            return self._give_up(place.problem((EXTENDS,), f"extends itself: {circle}"))
        # A circle is recognised above; this stops chains and diamonds that are merely too large.
        if self.files >= MAX_FILES:
            return self._give_up(place.problem((EXTENDS,), f"more than {MAX_FILES} files are extended in all"))
        return self._file(target, name, chain)

    def _give_up(self, *problems: Problem) -> Node:
        """Note problems that leave nothing to check, and go on with an empty tree to collect others."""
        self.problems += problems
        self.fatal = True
        return Node({})


def plain_data(value: Any, keys: Keys = ()) -> Any:
    """What a recipe file can hold: paths become texts, and numbers of other libraries those of Python.

    Args:
        value: A value of a recipe that is no file.
        keys: Where it is in the recipe.

    Raises:
        RecipeError: There is something else.
    """
    if isinstance(value, Mapping):
        tree = {}
        for key, inner in value.items():
            if not isinstance(key, str):
                message = f"found the key {key!r}; keys of a recipe are texts"
                raise RecipeError([Place(MAPPING_NAME, 1, 1).problem(keys, message)])
            tree[key] = plain_data(inner, (*keys, key))
        return tree
    if isinstance(value, list | tuple):
        return [plain_data(inner, (*keys, index)) for index, inner in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, bool | str):
        return value
    # NumPy's numbers too, which would be written as `np.int64(3)`.
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    message = f"found {type(value).__name__}; a recipe holds mappings, lists, texts, paths, numbers, booleans and null"
    raise RecipeError([Place(MAPPING_NAME, 1, 1).problem(keys, message)])


def _shown(path: Path) -> str:
    """How problems name a recipe that ships: relative to the current directory when it is below it."""
    here = Path.cwd()
    if path.is_relative_to(here):
        return str(path.relative_to(here))
    return str(path)


def _alternative(path: Path) -> str:
    """A hint at a recipe that may have been meant instead of the missing `path`."""
    # Who writes `teacher_default` without the scheme most likely means the one that ships.
    if len(path.parts) == 1 and path.stem in recipe_names():
        return f"; the recipe that ships is `{SCHEME}{path.stem}`"
    if not path.parent.is_dir():
        return ""
    near = nearest(path.name, (file.name for file in path.parent.glob("*.y*ml")))
    if near is None:
        return ""
    return f"; did you mean `{path.parent / near}`?"


def _with_defaults(base: Node, top: Node) -> Node:
    """`base` with the defaults of those sections that `top` has and `base` leaves out."""
    merged = dict(base.value)
    for section, names in SECTION_DEFAULTS.items():
        # A layer that changes one entry changes the default ones, as if the layer below had written them out.
        if section in top.value and section not in base.value:
            merged[section] = Node(dict.fromkeys(names, Node({})))
    return Node(merged, base.place, base.key)


def _removes(keys: Keys, node: Node) -> bool:
    """Whether a value removes the inherited entry at `keys`."""
    kind = kind_at(keys)
    if kind is None or not kind.many:
        return False
    return node.value is None or node.value is False or node.value == _OFF


def _cleared(root: Node) -> Node:
    """The same tree, with an empty mapping wherever `null` clears a mapping that is not optional."""
    # Imported here: the sections' module imports the registry, and merging is imported by both.
    from neuropbr_core.recipe.schema import core_sections, optional_sections

    # Sections of components are never null, and those of the core only where that is a choice.
    mappings: dict[str, type | None] = {}
    for kind in KINDS.values():
        if kind.section:
            mappings[kind.section[0]] = None
    for name, cls in core_sections().items():
        if name not in optional_sections():
            mappings[name] = cls
    sections = dict(root.value)
    for name, mapping in mappings.items():
        node = sections.get(name)
        if node is None:
            continue
        if node.value is None:
            sections[name] = replace(node, value={})
        elif mapping is not None and isinstance(node.value, dict):
            inner = dict(node.value)
            for key in _mapping_keys(mapping):
                if key in inner and inner[key].value is None:
                    inner[key] = replace(inner[key], value={})
            sections[name] = replace(node, value=inner)
    return replace(root, value=sections)


def _mapping_keys(cls: type) -> list[str]:
    """Keys of a section whose values are mappings and cannot be null."""
    keys = []
    for name, kind in get_type_hints(cls).items():
        if is_dataclass(kind) or get_origin(kind) is dict:
            keys.append(name)
    # A slot with a default is such a key too, beside those of the dataclass.
    for kind in KINDS.values():
        if kind.default is not None:
            keys.append(kind.section[-1])
    return keys


def _with_slot(root: Node, section: Keys, default: str) -> Node:
    """`root` with a component at `section`, where it names none."""
    outer = root.value.get(section[0], Node({}))
    if not isinstance(outer.value, dict):
        return root  # the schema reports it
    entry = outer.value.get(section[1], Node({}))
    if not isinstance(entry.value, dict) or USE in entry.value:
        return root
    entry = replace(entry, value={USE: Node(default), **entry.value})
    outer = replace(outer, value={section[1]: entry, **outer.value, section[1]: entry})
    return replace(root, value={**root.value, section[0]: outer})
