"""Checking a merged recipe: all problems at once, each at its place; or none, and the typed parts.

The schema judges first. Values that pass become dataclasses. The rules between sections come last, and read only
sections that are in order.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast, get_type_hints

import msgspec

from neuropbr_core.errors import NeuroPBRError, PluginError, Problem, RecipeError
from neuropbr_core.kinds import KINDS
from neuropbr_core.plugin import Needs
from neuropbr_core.recipe.english import Schema, words
from neuropbr_core.recipe.merge import USE, entry_keys, kind_at, slots
from neuropbr_core.recipe.rules import faults
from neuropbr_core.recipe.schema import (
    Choice,
    compose,
    compose_entries,
    core_sections,
    optional_sections,
    options_schema,
)
from neuropbr_core.recipe.yaml_tree import Keys, Node, plain_scalar, scalar
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.suggestions import nearest

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

    from neuropbr_core.registry.catalog import Registry

_CONVERT_PLACE = re.compile(r" - at `\$(?P<keys>[^`]*)`\Z")
"""The end of msgspec's messages, which names the value by its path."""

_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
"""Texts that other YAML readers take for booleans."""

_LEADING_KEY = re.compile(
    r"(?P<keys>(data|model|losses|teacher|optimizer|training|observers|export)(\.[A-Za-z0-9_-]+)*):? (?P<message>.*)",
    re.DOTALL,
)
"""A message that begins with a key of a recipe."""

_SHOWN = 60
"""Characters of a value that a message shows."""


@dataclass(frozen=True)
class Checked:
    """The result of a check.

    Attributes:
        problems: Everything that is wrong with the recipe.
        sections: The core's sections that are in order, by name.
        components: The components that are in order, by the path of their entry.
    """

    problems: list[Problem]
    sections: dict[str, Any]
    components: dict[Keys, Chosen]


def placed(error: NeuroPBRError, root: Node) -> NeuroPBRError:
    """The same error with the place of the value that it is about, where its message begins with a key of the recipe.

    Args:
        error: What building the parts of a recipe raised, such as `model.decoder.channels lists 5 widths, …`.
        root: The merged tree of the recipe.
    """
    match = _LEADING_KEY.match(str(error))
    if isinstance(error, RecipeError) or match is None:
        return error
    keys: Keys = tuple(match["keys"].split("."))
    return RecipeError([root.place_of(keys).problem(keys, match["message"])])


def check_tree(root: Node, registry: "Registry", problems: list[Problem]) -> Checked:
    """Check a merged recipe.

    Args:
        root: The tree.
        registry: Where components come from; only those that the recipe names are loaded.
        problems: What reading already reported; nothing else is reported about the same places.
    """
    choices, missing = _choices(root, registry)
    # The three stages share one list of problems, because each is silent about values that an earlier one refused.
    parts = _Parts(root, [*problems, *missing, *_violations(root, compose(choices), problems)])
    sections = parts.sections()
    components = parts.components(registry)
    # Rules between sections read, of each mapping of components, what its components need.
    needs: dict[str, dict[str, Needs | None]] = {}
    for kind in KINDS.values():
        if kind.many:
            needs[kind.section[-1]] = {}
    for slot in slots(root):
        if slot.kind.many:
            # None stands for a component with problems of its own: it may need anything.
            needs[slot.kind.section[-1]][slot.name] = None
            component = components.get(slot.keys)
            if component is not None:
                needs[slot.kind.section[-1]][slot.name] = component.needs
    broken = []
    for fault in faults({**sections, **needs}):
        # Of the values that could be changed, the problem points at the one that the user wrote last.
        shown = min(fault.keys, key=lambda keys: _remoteness(root, keys))
        broken.append(root.place_of(shown).problem(fault.keys[0], fault.message))
    return Checked([*parts.known, *parts.refused, *broken], sections, components)


def check_entries(root: Node, registry: "Registry", problems: list[Problem]) -> Checked:
    """Check a tree that has nothing but sections of components, such as `export`; see `check_tree`."""
    choices, missing = _choices(root, registry)
    schema = compose_entries(choices, root.value)
    parts = _Parts(root, [*problems, *missing, *_violations(root, schema, problems)])
    components = parts.components(registry)
    return Checked([*parts.known, *parts.refused], {}, components)


def plain(value: Any) -> Any:
    """A converted value as plain data: mappings, lists and scalars.

    Unlike msgspec's own functions it also writes the defaults of dataclasses, which msgspec leaves to the class.
    """
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return list(map(plain, value))
    return msgspec.to_builtins(value)  # enumerations, paths, dates and the like


def _choices(root: Node, registry: "Registry") -> tuple[list[Choice], list[Problem]]:
    """The components that the recipe names, and the problems of those that cannot be loaded."""
    choices: dict[tuple[str, str], Choice] = {}
    problems = []
    for slot in slots(root):
        try:
            choice = Choice(slot.kind.name, slot.use, registry.options(slot.kind.name, slot.use))
            # Composing finds options that no schema describes; here the entry that names them is at hand.
            options_schema(choice)
        except PluginError as error:
            # Without options its entry is not examined: every key of it would be reported as unknown.
            choice = Choice(slot.kind.name, slot.use, None)
            problems.append(root.place_of(slot.use_keys, key=not slot.explicit).problem(slot.use_keys, str(error)))
        choices[choice.kind, choice.use] = choice
    return list(choices.values()), problems


def _remoteness(root: Node, keys: Keys) -> int:
    """How far a value is from the user's last word: the command line, the recipe, one that it extends, a default."""
    node = root.at(keys)
    if node is None or node.place is None:
        return 3
    # Words are those of the command line, which nobody inherits.
    if node.place.words:
        return 0
    if root.place is not None and node.place.file == root.place.file:
        return 1
    return 2


def _violations(root: Node, schema: Schema, problems: list[Problem]) -> Iterator[Problem]:
    """Problems of a tree by a schema, except at places that have a problem already."""
    known = {(problem.file, problem.line, problem.column) for problem in problems}
    for problem in validate(root, schema):
        # One mistake would otherwise be reported twice: a component that does not load has no schema for its options.
        if (problem.file, problem.line, problem.column) not in known:
            yield problem


def validate(root: Node, schema: Schema) -> list[Problem]:
    """Problems of a tree by a schema, each at the place of the value that is wrong."""
    # On use: importing it takes many times as long as starting Python.
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    # JSON Schema takes 1.0 for an integer; a recipe does not.
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    validator = cast("Validator", extend(Draft202012Validator, type_checker=types)(schema))  # type: ignore[no-untyped-call]
    problems: list[Problem] = []
    for error in validator.iter_errors(root.plain()):
        problems += _explained(root, schema, error)
    # Several rules may object to one value in the same words.
    return list(dict.fromkeys(problems))


def _explained(root: Node, schema: Schema, error: "ValidationError") -> Iterator[Problem]:
    """The problems for which one error of the validator stands, in the words of the recipe's author."""
    value: Any = error.instance
    keys: Keys = tuple(error.absolute_path)
    rule = str(error.validator)
    own = cast("Schema", error.schema)
    about_names = list(error.relative_schema_path)[-2:-1] == ["propertyNames"]
    # Alternatives come first: what is wrong within the one that was meant says more than that none fits.
    causes = _intended_branch(error)
    if causes:
        for cause in causes:
            yield from _explained(root, schema, cause)
    elif about_names:
        here = (*keys, value)
        message = "is no name for an entry; use letters, digits, `_` and `-`, and name the component with `use`"
        yield root.place_of(here, key=True).problem(here, message)
    elif rule == "additionalProperties":
        known = list(own.get("properties", {}))
        # The validator reports all unknown keys in one error; each gets a line of its own.
        for key in value:
            if key not in known:
                here = (*keys, key)
                message = f"unknown key; allowed: {', '.join(known) or 'none'}{_suggestion(key, known)}"
                yield root.place_of(here, key=True).problem(here, message)
    elif rule == "required":
        for key in cast("list[str]", error.validator_value):
            if key not in value:
                here = (*keys, key)
                message = "is missing"
                kind = kind_at(keys)
                if key == USE and kind is not None:
                    command = f"neuropbr list-plugins --kind {kind.name}"
                    message = f"is missing; it names the {kind.name} (`{command}` lists them)"
                yield root.place_of(here).problem(here, message)
    elif rule == "minProperties":
        yield root.place_of(keys).problem(keys, "is empty; it needs at least one entry")
    else:
        shown = _shown(value)
        # These rules object to the length, which "a list" would not show.
        if rule in ("minItems", "maxItems", "items"):
            shown = f"a list of {len(value)}"
        allowed = words(own, schema["$defs"])
        yield root.place_of(keys).problem(keys, f"found {shown}; allowed: {allowed}{_hint(value, own)}")


def _intended_branch(error: "ValidationError") -> "list[ValidationError]":
    """Of alternatives, the errors of the one that has the type of the list or mapping given; none if none has."""
    if not isinstance(error.instance, dict | list):
        return []
    branches: dict[Any, list[ValidationError]] = {}
    for cause in error.context or ():
        branches.setdefault(cause.schema_path[0], []).append(cause)
    for causes in branches.values():
        # An error of type at the value itself means that the author did not intend this alternative.
        if not any(cause.validator == "type" and cause.absolute_path == error.absolute_path for cause in causes):
            return causes
    return []


def _suggestion(name: str, known: Sequence[str]) -> str:
    """The end of a message that names the nearest known name, or nothing."""
    near = nearest(name, known)
    if near is None:
        return ""
    return f"; did you mean `{near}`?"


def _shown(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    shown = scalar(value)
    if isinstance(value, str):
        shown = f'"{value}"'
    if len(shown) > _SHOWN:
        return f"{shown[:_SHOWN]}…"
    return shown


def _hint(value: Any, schema: Schema) -> str:
    """The end of a message that says what the author of a text may have meant."""
    if not isinstance(value, str):
        return ""
    options = schema.get("enum", [])
    names = []
    for option in options:
        if isinstance(option, str):
            names.append(option)
    suggestion = _suggestion(value, names)
    if suggestion:
        return suggestion
    types = set()
    for option in schema.get("anyOf", [schema]):
        kind = option.get("type")
        types.update(kind if isinstance(kind, list) else [kind])
    if "boolean" in types and value.lower() in _BOOLEANS:
        return f"; write `{_BOOLEANS[value.lower()]}`"
    # Quotes make text of everything, so a quoted number is text that would be a number without them.
    try:
        number = plain_scalar(value)
    except ValueError:
        return ""
    if isinstance(number, int | float) and (types & {"integer", "number"} or options):
        return "; write it without quotes"
    return ""


class _Parts:
    """Converts what has no problem yet into typed parts.

    Attributes:
        known: The problems that were known before.
        refused: The problems of values that the schema allows and a dataclass itself refuses.
    """

    def __init__(self, root: Node, problems: list[Problem]) -> None:
        self.root = root
        self.known = problems
        self.refused: list[Problem] = []
        self._problems = problems

    def components(self, registry: "Registry") -> dict[Keys, Chosen]:
        """The components that are in order, by the path of their entry."""
        components = {}
        for slot in slots(self.root):
            # A component that does not load has a problem at its entry, so the registry is asked for sound ones only.
            if not self._is_sound(slot.keys):
                continue
            kind = slot.kind
            core = entry_keys(kind)
            # An entry mixes keys of two dataclasses: the core's and the component's own.
            raw_entry = {}
            raw_options = {}
            for key, node in self.root.mapping(slot.keys).items():
                if key not in core:
                    raw_options[key] = node.plain()
                elif key != USE:
                    raw_entry[key] = node.plain()
            # Both are converted, even if the first is refused: all problems are reported at once.
            entry = self._convert(raw_entry, kind.entry_options, slot.keys)
            options = self._convert(raw_options, registry.options(kind.name, slot.use), slot.keys)
            if entry is not None and options is not None:
                # Qualified, so that a run's record stays clear when another distribution offers the name later.
                use = registry.find(kind.name, slot.use).qualified
                components[slot.keys] = Chosen(kind.name, slot.name, use, options, entry, registry)
        return components

    def sections(self) -> dict[str, Any]:
        """The core's sections that are in order."""
        sections: dict[str, Any] = {}
        for name, cls in core_sections().items():
            section = self.root.at((name,))
            # null and a missing section both mean that there is none; a section of defaults would switch it on.
            if name in optional_sections() and (section is None or section.value is None):
                sections[name] = None
                continue
            written = self.root.mapping((name,))
            raw = {}
            for field in fields(cls):
                if field.name in written:
                    raw[field.name] = written[field.name].plain()
            # A faulty component inside a section, such as `model.encoder`, leaves the section's own keys in order.
            components = []
            for kind in KINDS.values():
                if kind.section[:1] == (name,):
                    components.append(kind.section)
            if self._is_sound((name,), components):
                part = self._convert(raw, cls, (name,))
                if part is not None:
                    sections[name] = part
        return sections

    def _is_sound(self, keys: Keys, skipped: Sequence[Keys] = ()) -> bool:
        """Whether no problem has a path at or under `keys`, those under `skipped` aside."""
        for problem in self._problems:
            excused = any(_is_under(problem.path, inner) for inner in skipped)
            if _is_under(problem.path, keys) and not excused:
                return False
        return True

    def _convert(self, raw: dict[str, Any], cls: type, keys: Keys) -> Any:
        """`raw` as `cls`; None, with a problem, when the dataclass itself refuses it."""
        try:
            return _with_typed_defaults(msgspec.convert(raw, cls))
        except msgspec.ValidationError as error:
            message = str(error)
        here = keys
        # The path in msgspec's words becomes a place in the file, as other problems have it.
        match = _CONVERT_PLACE.search(message)
        if match:
            message = message[: match.start()]
            here = (*keys, *filter(None, match["keys"].split(".")))
        self.refused.append(self.root.place_of(here).problem(here, message))
        return None


def _is_under(path: str, keys: Keys) -> bool:
    # Problems hold dotted paths: `model` covers `model.encoder` and `model[0]`, and not `models`.
    head = ".".join(map(str, keys))
    return path == head or path.startswith((f"{head}.", f"{head}["))


def _with_typed_defaults(value: Any) -> Any:
    """The same value, its defaults converted to their declared types.

    msgspec checks the values of a recipe and copies defaults as they are: the default of `warmup_epochs: float = 5`
    would stay an integer, and a recipe that was written out and read again would differ from the original.
    """
    if isinstance(value, dict):
        return {key: _with_typed_defaults(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_with_typed_defaults, value))
    if not is_dataclass(value):
        return value
    types = _declared_types(cast("Any", type(value)))
    changes = {}
    for field in fields(value):
        if field.init:
            current = getattr(value, field.name)
            default = field.default
            if field.default_factory is not MISSING:
                default = field.default_factory()
            # A value that equals the default may be the default itself, which nothing has converted.
            if current == default:
                changes[field.name] = msgspec.convert(plain(current), types[field.name])
            else:
                changes[field.name] = _with_typed_defaults(current)
    return replace(cast("Any", value), **changes)


@cache
def _declared_types(cls: Any) -> dict[str, Any]:
    """The types of a dataclass's fields, with the ranges that `Meta` adds to them."""
    return get_type_hints(cls, include_extras=True)
