"""JSON Schema in English: what a value may be, for errors, help, listings and the tables of the documentation."""

from collections.abc import Iterator, Mapping
from typing import Any

from neuropbr_core.recipe.yaml_tree import scalar

Schema = dict[str, Any]

REF = "#/$defs/"

_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping",
    "array": "a list",
}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matching {}",
}


def words(schema: Mapping[str, Any], definitions: Mapping[str, Any], *, bounds: bool = True) -> str:
    """Describe the values that a schema allows, as a phrase such as `an integer from 1 to 64 or null`.

    Args:
        schema: The schema of a value.
        definitions: The `$defs` that it refers to.
        bounds: Whether the phrase has the bounds of numbers, texts and lists.
    """
    if "$ref" in schema:
        return words(definitions[schema["$ref"].removeprefix(REF)], definitions, bounds=bounds)
    # A schema states its alternatives as `anyOf`, or as a list of types when nothing else tells them apart.
    kind = schema.get("type")
    alternatives = schema.get("anyOf", [])
    if isinstance(kind, list):
        alternatives = [{"type": name} for name in kind]
    choices = schema.get("enum", [])
    if "const" in schema:
        choices = [schema["const"]]
    # Before types: what is listed says all, and `text` beside it would say less.
    if choices:
        return ", ".join(map(choice, choices))
    if alternatives:
        return " or ".join(words(option, definitions, bounds=bounds) for option in alternatives)
    if kind == "array" and "prefixItems" in schema:
        # Each position has a schema of its own, and so the length is fixed; equal ones are described once.
        kinds = [words(item, definitions, bounds=bounds) for item in schema["prefixItems"]]
        if len(set(kinds)) == 1:
            return f"a list of {len(kinds)} values, each {kinds[0]}"
        return f"a list of {len(kinds)} values: {'; '.join(kinds)}"
    if kind == "array":
        phrase = "a list of values"
        if bounds:
            phrase = f"a list of {_count_words(schema)}values"
        items = schema.get("items")
        if items:
            phrase += f", each {words(items, definitions, bounds=bounds)}"
        return phrase
    phrase = _TYPES.get(str(kind), "any value")
    # Mappings with keys of their own have rows, pages and errors of their own.
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping) and "properties" not in schema:
        return f"{phrase}, each value {words(values, definitions, bounds=bounds)}"
    if bounds:
        phrase = f"{phrase} {bound_words(schema)}".rstrip()
    return phrase


def bound_words(schema: Mapping[str, Any]) -> str:
    """Describe the bounds that a schema itself sets, such as `at least 0 and below 1`; empty when it sets none."""
    # The usual pair reads better as one phrase.
    if "minimum" in schema and "maximum" in schema:
        return f"from {schema['minimum']} to {schema['maximum']}"
    limits = []
    for key, phrase in _BOUNDS.items():
        if key in schema:
            limits.append(phrase.format(schema[key]))
    return " and ".join(limits)


def all_bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    """The bounds of a value, of its alternatives and of its items, each as a phrase."""
    limits = bound_words(schema)
    if limits:
        yield limits
    # A list with a schema for each position has its length in the phrase of `words` already.
    if "prefixItems" not in schema:
        count = _count_words(schema)
        if count:
            yield f"{count}values"
    for child in children(schema):
        yield from all_bounds(child)


def children(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas inside a schema: its alternatives, and those of its items or values."""
    inner = [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]
    inner += [schema.get("items"), schema.get("additionalProperties")]
    schemas = []
    for child in inner:
        # `items: false` and `additionalProperties: false` forbid, and describe nothing.
        if isinstance(child, Mapping):
            schemas.append(child)
    return schemas


def choice(value: Any) -> str:
    """One of a few allowed values; text is shown without quotes."""
    if isinstance(value, str):
        return value
    return scalar(value)


def _count_words(schema: Mapping[str, Any]) -> str:
    """How many items a list may have, as the beginning of `at least 1 and at most 4 values`."""
    limits = []
    if schema.get("minItems"):
        limits.append(f"at least {schema['minItems']} ")
    if schema.get("maxItems"):
        limits.append(f"at most {schema['maxItems']} ")
    return "and ".join(limits)
