"""What a violation of the schema means, in the words of the recipe's author."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from neuropbr_core.errors import Problem
from neuropbr_core.recipe.node import Keys, Node
from neuropbr_core.recipe.slots import USE, kind_at
from neuropbr_core.recipe.source import plain_scalar
from neuropbr_core.recipe.text import scalar

if TYPE_CHECKING:
    from jsonschema import ValidationError

    from neuropbr_core.recipe.schema import Schema

_YES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_SHOWN = 60
_BAD_NAME = "is no name for an entry; use letters, digits, `_` and `-`, and name the component with `use`"
_LENGTHS = {"minItems", "maxItems", "items"}


@dataclass(frozen=True)
class Violation:
    """One rule of a schema that a value breaks.

    Attributes:
        rule: The schema's keyword.
        wanted: What the schema says there.
        schema: The schema that has the keyword.
        keys: Where the value stands.
        value: The value; for a rule about names, the name.
        names: Whether the rule is about the names of a mapping's entries.
        branches: For alternatives, the violations of each.
    """

    rule: str
    wanted: Any
    schema: "Schema"
    keys: Keys
    value: Any
    names: bool
    branches: "tuple[tuple[Violation, ...], ...]"

    @classmethod
    def of(cls, error: "ValidationError") -> "Violation":
        """What the validator found, in our terms."""
        branches: dict[Any, list[Violation]] = {}
        for cause in error.context or ():
            branches.setdefault(cause.schema_path[0], []).append(cls.of(cause))
        return cls(
            rule=str(error.validator),
            wanted=error.validator_value,
            schema=cast("Schema", error.schema),
            keys=tuple(error.absolute_path),
            value=error.instance,
            names=list(error.relative_schema_path)[-2:-1] == ["propertyNames"],
            branches=tuple(map(tuple, branches.values())),
        )

    def meant(self) -> "tuple[Violation, ...]":
        """The violations of the alternative that has the type of the list or mapping found; none if none has."""
        if not isinstance(self.value, dict | list):
            return ()
        for causes in self.branches:
            if not any(cause.rule == "type" and cause.keys == self.keys for cause in causes):
                return causes
        return ()


@dataclass(frozen=True)
class Explainer:
    """Turns violations of a schema into problems.

    Attributes:
        root: The recipe that was validated.
        schema: The schema that it breaks.
    """

    root: Node
    schema: "Schema"

    def problems(self, violation: Violation) -> Iterator[Problem]:
        """The problems that one violation stands for."""
        if causes := violation.meant():
            for cause in causes:
                yield from self.problems(cause)
            return
        by_key = violation.names or violation.rule == "additionalProperties"
        for keys, message in self._faults(violation):
            yield self.root.place_of(keys, key=by_key).problem(keys, message)

    def _faults(self, violation: Violation) -> Iterator[tuple[Keys, str]]:
        """Where it is wrong, and what."""
        value, keys = violation.value, violation.keys
        if violation.names:
            yield (*keys, value), _BAD_NAME
        elif violation.rule == "additionalProperties":
            yield from _unknown_keys(violation)
        elif violation.rule == "required":
            yield from (((*keys, key), _missing(key, keys)) for key in violation.wanted if key not in value)
        elif violation.rule == "minProperties":
            yield keys, "is empty; it needs at least one entry"
        else:
            shown = f"a list of {len(value)}" if violation.rule in _LENGTHS else found(value)
            allowed = words(violation.schema, self.schema)
            yield keys, f"found {shown}; allowed: {allowed}{_hint(value, violation.schema)}"


def nearest(word: str, names: Iterable[str]) -> str:
    """The end of a message that names the nearest of `names`, or nothing."""
    matches = difflib.get_close_matches(word, list(names), 1)
    return f"; did you mean `{matches[0]}`?" if matches else ""


def words(schema: "Schema", top: "Schema") -> str:
    """What `schema` allows, as a phrase.

    Args:
        schema: The schema of a value.
        top: The schema whose `$defs` it refers to.
    """
    if "$ref" in schema:
        return words(top["$defs"][schema["$ref"].removeprefix("#/$defs/")], top)
    if "enum" in schema:
        return ", ".join(str(value) if isinstance(value, str) else scalar(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(words(choice, top) for choice in schema["anyOf"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(_TYPES[name] for name in kind)
    if kind == "array":
        return _list_words(schema, top)
    return _TYPES.get(str(kind), "any value") + _bounds(schema)


_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping",
    "array": "a list",
}


def _bounds(schema: "Schema") -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    phrases = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{phrase} {schema[key]}" for key, phrase in phrases.items() if key in schema]
    if "pattern" in schema:
        said.append(f"matching {schema['pattern']}")
    return f" {' and '.join(said)}" if said else ""


def _list_words(schema: "Schema", top: "Schema") -> str:
    if "prefixItems" in schema:
        kinds = [words(item, top) for item in schema["prefixItems"]]
        what = f", each {kinds[0]}" if len(set(kinds)) == 1 else f": {'; '.join(kinds)}"
        return f"a list of {len(kinds)} values{what}"
    least = f"at least {count} " if (count := schema.get("minItems")) else ""
    most = f"at most {count} " if (count := schema.get("maxItems")) else ""
    items = schema.get("items")
    each = f", each {words(items, top)}" if items else ""
    return f"a list of {' and '.join(filter(None, (least, most)))}values{each}"


def _unknown_keys(violation: Violation) -> Iterator[tuple[Keys, str]]:
    known = list(violation.schema.get("properties", {}))
    for key in violation.value:
        if key not in known:
            allowed = ", ".join(known) or "none"
            yield (*violation.keys, key), f"unknown key; allowed: {allowed}{nearest(key, known)}"


def _missing(key: str, keys: Keys) -> str:
    if key == USE and (kind := kind_at(keys)) is not None:
        return f"is missing; it names the {kind.name} (`neuropbr list-plugins --kind {kind.name}` lists them)"
    return "is missing"


def found(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    shown = f'"{value}"' if isinstance(value, str) else scalar(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _hint(value: Any, schema: "Schema") -> str:
    """What may have been meant by a text."""
    if not isinstance(value, str):
        return ""
    options = schema.get("enum", [])
    if near := nearest(value, [option for option in options if isinstance(option, str)]):
        return near
    types = {choice.get("type") for choice in schema.get("anyOf", [schema])}
    if "boolean" in types and value.lower() in _YES:
        return f"; write `{_YES[value.lower()]}`"
    return "; write it without quotes" if _is_number(value) and (types & {"integer", "number"} or options) else ""


def _is_number(text: str) -> bool:
    try:
        value = plain_scalar(text)
    except ValueError:
        return False
    return isinstance(value, int | float)
