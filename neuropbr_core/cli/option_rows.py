"""Describes the fields of an options dataclass in people's words, from its JSON Schema."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from neuropbr_core.recipe.english import REF, Schema, all_bounds, children, words


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
    (top,), definitions = msgspec.json.schema_components([options], ref_template=REF + "{name}")
    # The schema has no defaults for fields whose default a factory makes.
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = msgspec.to_builtins(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = msgspec.to_builtins(field.default_factory())
    return list(_rows(top, definitions, defaults, prefix=""))


def _rows(
    node: Mapping[str, Any],
    definitions: Mapping[str, Schema],
    defaults: Mapping[str, Any],
    prefix: str,
    around: tuple[str, ...] = (),
) -> Iterator[OptionRow]:
    """Rows of one dataclass.

    `defaults` are those that its owner sets, and win over its own; a dataclass `around` it is not described inside
    itself.
    """
    reference = node["$ref"]
    schema = definitions[reference.removeprefix(REF)]
    for key, value in schema["properties"].items():
        # The owner's default wins, because a recipe that leaves the whole dataclass out gets that one.
        default = defaults.get(key, value.get("default"))
        yield OptionRow(
            name=prefix + key,
            type=words(value, definitions, bounds=False),
            range=", ".join(dict.fromkeys(all_bounds(value))),
            required=key in schema.get("required", ()) and key not in defaults,
            default=default,
            description=value.get("description", ""),
        )
        inner_defaults: Mapping[str, Any] = {}
        if isinstance(default, Mapping):
            inner_defaults = default
        for suffix, nested in _nested(value, definitions):
            # A dataclass inside itself, such as a tree, would have no end of rows.
            if nested["$ref"] not in (reference, *around):
                around_nested = (reference, *around)
                yield from _rows(nested, definitions, inner_defaults, f"{prefix}{key}{suffix}.", around_nested)


def _nested(node: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The dataclasses inside a value, each with the suffix of the option's name that reaches into it."""
    # Other types have definitions of their own too, such as an `Enum`, which has no fields.
    if "$ref" in node and "properties" in definitions[node["$ref"].removeprefix(REF)]:
        yield "", node
    suffix = ""
    if node.get("type") in ("array", "object"):
        suffix = "[]"
    for child in children(node):
        for inner, nested in _nested(child, definitions):
            yield suffix + inner, nested
