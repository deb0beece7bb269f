"""Describes the fields of an options dataclass in people's words, from its JSON Schema."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

_REF = "#/$defs/"
_WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
    "array": "list",
}
_BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matching {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class OptionRow:
    """One option.

    Attributes:
        name: Its key; dotted inside a nested dataclass, `key[]` inside the items of a list.
        type: What it takes.
        range: Which values are allowed; empty when all are.
        required: Whether a recipe must give it.
        default: Its default as plain data; None when `required`.
        description: What it means.
    """

    name: str
    type: str
    range: str
    required: bool
    default: Any
    description: str


def option_rows(options: type) -> list[OptionRow]:
    """Describe an options dataclass, nested dataclasses included.

    Args:
        options: A dataclass that msgspec can describe.
    """
    (top,), definitions = msgspec.json.schema_components([options], ref_template=_REF + "{name}")
    return list(_rows(top, definitions, _defaults(options), prefix=""))


def _rows(
    node: Schema, definitions: Mapping[str, Schema], defaults: Schema, prefix: str, around: tuple[str, ...] = ()
) -> Iterator[OptionRow]:
    """Rows of one dataclass.

    `defaults` are what its owner sets, and win over its own; a dataclass `around` it is not described inside itself.
    """
    name = node["$ref"]
    schema = definitions[name.removeprefix(_REF)]
    for key, value in schema["properties"].items():
        default = defaults.get(key, value.get("default"))
        yield OptionRow(
            name=prefix + key,
            type=_type(value),
            range=", ".join(dict.fromkeys(_bounds(value))),
            required=key in schema.get("required", ()) and key not in defaults,
            default=default,
            description=value.get("description", ""),
        )
        inner = default if isinstance(default, Mapping) else {}
        for suffix, nested in _nested(value):
            if nested["$ref"] not in (name, *around):
                yield from _rows(nested, definitions, inner, f"{prefix}{key}{suffix}.", (name, *around))


def _defaults(options: type) -> dict[str, Any]:
    """Defaults as plain data, those of default factories too, which the schema lacks."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        if field.default is not dataclasses.MISSING:
            found[field.name] = msgspec.to_builtins(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = msgspec.to_builtins(field.default_factory())
    return found


def _type(node: Schema) -> str:
    match node:
        case {"anyOf": options}:
            return _alternatives([_type(option) for option in options])
        case {"enum": values}:
            return _alternatives([_literal(value) for value in values])
        case {"const": value}:
            return _literal(value)
        case {"$ref": _}:
            return "group of keys"
        case _:
            return _plain_type(node)


def _plain_type(node: Schema) -> str:
    match node:
        case {"prefixItems": items}:
            return f"list of {len(items)}: {', '.join(_type(item) for item in items)}"
        case {"type": "array", "items": Mapping() as items}:
            return f"list of {_type(items)}"
        case {"additionalProperties": Mapping() as values}:
            return f"mapping to {_type(values)}"
        case _:
            return _WORDS.get(node.get("type", ""), "anything")


def _bounds(node: Schema) -> Iterator[str]:
    """Limits of a value, and of the items of a list."""
    if "prefixItems" not in node:
        yield from (words.format(node[key]) for key, words in _BOUNDS.items() if key in node)
    for child in _children(node):
        yield from _bounds(child)


def _nested(node: Schema) -> Iterator[tuple[str, Schema]]:
    """Dataclasses inside a value, each with what the option's name takes on to reach into it."""
    if "$ref" in node:
        yield "", node
    suffix = "[]" if node.get("type") in ("array", "object") else ""
    for child in _children(node):
        for inner, nested in _nested(child):
            yield suffix + inner, nested


def _children(node: Schema) -> list[Schema]:
    found = [*node.get("anyOf", ()), *node.get("prefixItems", ()), node.get("items"), node.get("additionalProperties")]
    return [child for child in found if isinstance(child, Mapping)]


def _literal(value: Any) -> str:
    return "null" if value is None else str(value)


def _alternatives(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
