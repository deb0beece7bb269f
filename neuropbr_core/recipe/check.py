"""Checking a merged recipe: all problems at once, each at its place; or none, and the typed parts."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, cast

import msgspec

from neuropbr_core.errors import PluginError, Problem
from neuropbr_core.kinds import KINDS
from neuropbr_core.plugin import Needs
from neuropbr_core.recipe.node import Keys, Node
from neuropbr_core.recipe.rules import faults
from neuropbr_core.recipe.schema import Choice, Schema, compose, core_sections, optional_sections, options_schema
from neuropbr_core.recipe.slots import USE, Slot, slots
from neuropbr_core.registry.chosen import Chosen

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

    from neuropbr_core.registry import Registry

_CONVERT_PLACE = re.compile(r" - at `\$(?P<keys>[^`]*)`\Z")


@dataclass(frozen=True)
class Checked:
    """What a check made of a recipe.

    Attributes:
        problems: Everything that is wrong with it.
        sections: The core's sections that are in order, by name.
        components: The components that are in order, by where their entry stands.
    """

    problems: list[Problem]
    sections: dict[str, Any]
    components: dict[Keys, Chosen]


def check_tree(root: Node, registry: "Registry", problems: list[Problem]) -> Checked:
    """Check a merged recipe.

    Args:
        root: The tree.
        registry: Where components come from; only those that the recipe names are loaded.
        problems: What reading already found; nothing else is reported of the same places.
    """
    choices, faulty = _choices(root, registry)
    parts = _Parts(root, [*problems, *faulty, *_violations(root, compose(choices), problems)])
    sections = parts.sections()
    components = parts.components(registry)
    broken = _broken_rules(root, {**sections, **_needs(root, components)})
    return Checked([*parts.known, *parts.found, *broken], sections, components)


def check_entries(root: Node, registry: "Registry", problems: list[Problem]) -> Checked:
    """Check a tree that has nothing but sections of components, such as `export`; see `check_tree`."""
    choices, faulty = _choices(root, registry)
    whole = compose(choices)
    schema = {"type": "object", "properties": {name: whole["properties"][name] for name in root.value}}
    parts = _Parts(root, [*problems, *faulty, *_violations(root, {**schema, "$defs": whole["$defs"]}, problems)])
    components = parts.components(registry)
    return Checked([*parts.known, *parts.found], {}, components)


def validate(root: Node, schema: Schema) -> list[Problem]:
    """Problems of a tree by a schema, in the words of `explain`."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    from neuropbr_core.recipe.explain import Explainer, Violation

    # JSON Schema takes 1.0 for an integer; a recipe does not.
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    validator = cast("Validator", extend(Draft202012Validator, type_checker=types)(schema))  # type: ignore[no-untyped-call]
    explainer = Explainer(root, schema)
    found = (
        problem for error in validator.iter_errors(root.plain()) for problem in explainer.problems(Violation.of(error))
    )
    return list(dict.fromkeys(found))


def _violations(root: Node, schema: Schema, problems: list[Problem]) -> list[Problem]:
    """Problems of a tree by a schema, but for places that have one already."""
    known = {(problem.file, problem.line, problem.column) for problem in problems}
    return [problem for problem in validate(root, schema) if (problem.file, problem.line, problem.column) not in known]


def plain(value: Any) -> Any:
    """A converted value as plain data: mappings, lists and scalars.

    Unlike msgspec's own functions it also writes the defaults of dataclasses, which msgspec leaves to the class.
    """
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return msgspec.to_builtins(value)


def _choices(root: Node, registry: "Registry") -> tuple[list[Choice], list[Problem]]:
    """The components that the recipe names, and what is wrong with those that cannot be had."""
    choices: dict[tuple[str, str], Choice] = {}
    problems = []
    for slot in slots(root):
        try:
            choice = Choice(slot.kind.name, slot.use, registry.options(slot.kind.name, slot.use))
            options_schema(choice)
        except PluginError as error:
            choice = Choice(slot.kind.name, slot.use, None)
            problems.append(root.place_of(slot.use_keys, key=not slot.explicit).problem(slot.use_keys, str(error)))
        choices[choice.kind, choice.use] = choice
    return list(choices.values()), problems


def _needs(root: Node, components: dict[Keys, Chosen]) -> dict[str, dict[str, Needs | None]]:
    """What the components of each mapping need, by section and name; None for an entry that is not in order."""
    found: dict[str, dict[str, Needs | None]] = {kind.section[-1]: {} for kind in KINDS.values() if kind.many}
    for slot in slots(root):
        if slot.kind.many:
            part = components.get(slot.keys)
            needs = None if part is None else part.needs
            found[slot.kind.section[-1]][slot.name] = needs
    return found


def _broken_rules(root: Node, sections: dict[str, Any]) -> Iterator[Problem]:
    for fault in faults(sections):
        shown = min(fault.keys, key=lambda keys: _remoteness(root, keys))
        yield root.place_of(shown).problem(fault.keys[0], fault.message)


def _remoteness(root: Node, keys: Keys) -> int:
    """How far from the user's last word a value is: the command line, the recipe, one that it extends, a default."""
    node = root.at(keys)
    if node is None or node.place is None:
        return 3
    if node.place.words:
        return 0
    return 1 if root.place is not None and node.place.file == root.place.file else 2


class _Parts:
    """Converts what has no problem yet into typed parts."""

    def __init__(self, root: Node, problems: list[Problem]) -> None:
        self.root = root
        self.known = problems
        self.found: list[Problem] = []
        self._faulty = [problem.path for problem in problems]

    def components(self, registry: "Registry") -> dict[Keys, Chosen]:
        """The components that are in order, by where their entry stands."""
        found = ((slot.keys, self.component(slot, registry)) for slot in slots(self.root))
        return {keys: part for keys, part in found if part is not None}

    def sections(self) -> dict[str, Any]:
        """The core's sections that are in order."""
        sections: dict[str, Any] = {}
        for name, cls in core_sections().items():
            if name in optional_sections() and self.root.plain().get(name) is None:
                sections[name] = None
                continue
            node = self.root.mapping((name,))
            raw = {key: child.plain() for key, child in node.items() if key in {field.name for field in fields(cls)}}
            skipped = [kind.section for kind in KINDS.values() if kind.section and kind.section[0] == name]
            if self._is_sound((name,), skipped) and (part := self._convert(raw, cls, (name,))) is not None:
                sections[name] = part
        return sections

    def component(self, slot: Slot, registry: "Registry") -> Chosen | None:
        """A component, when its entry is in order."""
        if not self._is_sound(slot.keys):
            return None
        kind = slot.kind
        raw = {key: child.plain() for key, child in self.root.mapping(slot.keys).items() if key != USE}
        core = {field.name for field in fields(kind.entry_options)}
        options = registry.options(kind.name, slot.use)
        entry = self._convert({key: raw.pop(key) for key in core & set(raw)}, kind.entry_options, slot.keys)
        own = self._convert(raw, options, slot.keys)
        if entry is None or own is None:
            return None
        return Chosen(kind.name, slot.name, registry.find(kind.name, slot.use).qualified, own, entry, registry)

    def _is_sound(self, keys: Keys, skipped: Sequence[Keys] = ()) -> bool:
        """Whether no problem lies at or under `keys`, those under `skipped` aside."""

        def under(path: str, keys: Keys) -> bool:
            head = ".".join(map(str, keys))
            return path == head or path.startswith((f"{head}.", f"{head}["))

        return not any(under(path, keys) and not any(under(path, skip) for skip in skipped) for path in self._faulty)

    def _convert(self, raw: dict[str, Any], cls: type, keys: Keys) -> Any:
        """`raw` as `cls`, twice, so that defaults take the declared types too."""
        try:
            return msgspec.convert(plain(msgspec.convert(raw, cls)), cls)
        except msgspec.ValidationError as error:
            self.found.append(self._refusal(str(error), keys))
            return None

    def _refusal(self, message: str, keys: Keys) -> Problem:
        """The problem of values that the schema allows and the dataclass itself refuses."""
        inner: Keys = ()
        if match := _CONVERT_PLACE.search(message):
            message = message[: match.start()]
            inner = tuple(key for key in match["keys"].split(".") if key)
        here = (*keys, *inner)
        return self.root.place_of(here).problem(here, message)
