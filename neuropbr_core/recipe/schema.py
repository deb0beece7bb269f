"""One JSON Schema (draft 2020-12) for a whole recipe, from the core's dataclasses and the options of components.

Which options an entry may have is decided by `if`/`then` on its `use`, one rule a component; `oneOf` would report the
mistakes of every component that was not meant. The same schema serves the checker, with the components that one recipe
names, and editors, with all that are installed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args

import msgspec

from neuropbr_core.errors import PluginBroken
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.recipe.merge import EXTENDS, SECTION_DEFAULTS
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.recipe.slots import USE, entry_keys
from neuropbr_core.registry import Chosen

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
"""What the names of instances look like: they become file names and parts of metric names."""


@dataclass(frozen=True)
class Choice:
    """A component that a recipe may name.

    Attributes:
        kind: Name of its kind.
        use: How recipes name it: `name` or `distribution:name`.
        options: Dataclass of its options; None for one that cannot be had, whose entry is then not looked into.
    """

    kind: str
    use: str
    options: type | None


def core_sections() -> dict[str, type]:
    """The sections (or, for `model`, the part of it) that are one dataclass of the core, in order."""
    return {name: cls for name, cls in _dataclasses().items() if cls is not Chosen}


def optional_sections() -> set[str]:
    """The sections of the core that a recipe may leave out, which is None and not a section of defaults."""
    return {field.name for field in fields(Recipe) if isinstance(field.type, UnionType)}


def _dataclasses() -> dict[str, type]:
    """The dataclass of each field of `Recipe` that is one, or one or None."""
    types = {field.name: next(iter(get_args(field.type)), field.type) for field in fields(Recipe)}
    return {name: cls for name, cls in types.items() if isinstance(cls, type) and is_dataclass(cls)}


def section_order() -> list[str]:
    """All sections, in the order in which a resolved recipe is written: that of the fields of `Recipe`."""
    kinds = {kind.section[-1]: kind.section[0] for kind in KINDS.values() if kind.section}
    core = core_sections()
    names = (kinds.get(field.name, field.name) for field in fields(Recipe))
    return list(dict.fromkeys(name for name in names if name in core or name in kinds.values()))


def compose(choices: list[Choice], *, closed: bool = False) -> Schema:
    """Compose the schema.

    Args:
        choices: The components that entries may name.
        closed: Allow no others; for editors, which then offer the names. A checker leaves unknown names to the
            registry, which knows why it cannot have them.

    Returns:
        The schema. A file that extends another need not have what the other may bring.
    """
    defs: Schema = {}
    for choice in choices:
        defs |= _component(choice)
    sections = _core(defs)
    for kind in KINDS.values():
        if kind.section:
            defs[kind.name] = _entry(kind, choices, closed=closed)
            _place(sections, kind, choices)
    text: Schema = {"type": "string"}
    properties = {
        EXTENDS: {**_EXTENDS, "description": "Recipes that this one starts from; relative to this file."},
        "name": {**text, "pattern": NAME_PATTERN, "description": "Name of its runs; default: the file's name."},
        "description": {**text, "description": "One line for people."},
        **{name: sections[name] for name in section_order()},
    }
    return {
        "$schema": DIALECT,
        "title": "NeuroPBR recipe",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "if": {"required": [EXTENDS]},
        "else": _requirements(choices),
        "$defs": defs,
    }


def options_schema(choice: Choice) -> tuple[Schema, Schema]:
    """Schema of a component's entry, and the definitions that it refers to.

    Raises:
        PluginBroken: The options are no dataclass, cannot be described, or take a name that recipes reserve.
    """
    kind, label = KINDS[choice.kind], f"{choice.kind}/{choice.use}"
    if not is_dataclass(choice.options):
        raise PluginBroken(f"{label}: `{kind.options_hook}` must return a dataclass, not {choice.options!r}")
    own, defs = _describe(choice.options, f"{choice.kind}.{choice.use}.", label)
    core, core_defs = _describe(kind.entry_options, f"{choice.kind}.", label)
    if clash := sorted(set(own["properties"]) & set(entry_keys(kind))):
        raise PluginBroken(f"{label}: option `{clash[0]}` has a name that recipes reserve; its author must rename it")
    use = {"type": "string", "description": f"Component of kind {choice.kind}."}
    own = {**own, "properties": {USE: use, **core["properties"], **own["properties"]}}
    return own, {**core_defs, **defs}


def entry_schema(kind: Kind) -> Schema:
    """Schema of the keys that the core itself reads from an entry of `kind`."""
    own, _ = _describe(kind.entry_options, "", kind.name)
    return own


_EXTENDS: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


def _describe(options: type, prefix: str, label: str) -> tuple[Schema, Schema]:
    """Schema of a dataclass, closed, apart from the definitions that it refers to."""
    try:
        (ref,), defs = msgspec.json.schema_components([options], ref_template=f"#/$defs/{prefix}{{name}}")
    except (TypeError, RuntimeError) as error:
        raise PluginBroken(f"{label}: its options cannot be described as JSON Schema: {error}") from error
    close(defs)
    own = defs.pop(ref["$ref"].removeprefix(f"#/$defs/{prefix}"))
    return own, {prefix + name: schema for name, schema in defs.items()}


def close(schema: Any) -> None:
    """Forbid, everywhere in `schema`, keys that a mapping does not list."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            close(value)
    elif isinstance(schema, list):
        for value in schema:
            close(value)


def _component(choice: Choice) -> Schema:
    """Definitions of one component: its entry, under `kind/use`, and what that refers to."""
    if choice.options is None:
        return {_key(choice): {}}
    own, defs = options_schema(choice)
    return {_key(choice): own, **defs}


def _key(choice: Choice) -> str:
    return f"{choice.kind}.{choice.use}"


def _ref(key: str) -> Schema:
    return {"$ref": f"#/$defs/{key}"}


def _core(defs: Schema) -> dict[str, Schema]:
    """Schemas of all sections, without their components."""
    types = core_sections()
    _, found = msgspec.json.schema_components(list(types.values()), ref_template="#/$defs/{name}")
    close(found)
    optional = optional_sections()
    sections = {name: found.pop(cls.__name__) for name, cls in types.items() if name not in optional}
    sections |= {name: _or_null(types[name].__name__, found) for name in optional}
    defs.update(found)
    return sections


def _or_null(definition: str, defs: Schema) -> Schema:
    """Schema of a section that may be null, with the description of its dataclass."""
    description = defs[definition].get("description", "")
    return {"anyOf": [{"type": "null"}, _ref(definition)], "default": None, "description": description}


def _entry(kind: Kind, choices: list[Choice], *, closed: bool) -> Schema:
    """Schema of an entry that says `use`."""
    own = [choice for choice in choices if choice.kind == kind.name]
    use: Schema = {"type": "string", "description": f"Component of kind {kind.name}."}
    if closed:
        use["enum"] = [choice.use for choice in own]
    rules = [
        {
            "if": {"type": "object", "required": [USE], "properties": {USE: {"const": choice.use}}},
            "then": _ref(_key(choice)),
        }
        for choice in own
    ]
    rules += [{"if": _unsaid(), "then": _ref(_key(choice))} for choice in own if choice.use == kind.default]
    types = ["object", "null"] if kind.many else "object"
    return {"type": types, "properties": {USE: use}, **({"allOf": rules} if rules else {})}


def _unsaid() -> Schema:
    """Matches an entry that does not say `use`."""
    return {"type": "object", "not": {"required": [USE]}}


def _place(sections: dict[str, Schema], kind: Kind, choices: list[Choice]) -> None:
    """Put the entries of `kind` where recipes have them."""
    if not kind.many:
        outer = _section(sections, kind.section[:-1])
        outer["properties"] = {kind.section[-1]: _ref(kind.name), **outer["properties"]}
        return
    section = _section(sections, kind.section)
    section["additionalProperties"] = _ref(kind.name)
    section["propertyNames"] = {"pattern": NAME_PATTERN}
    for choice in choices:
        if choice.kind == kind.name and ":" not in choice.use:
            section["properties"][choice.use] = {**_ref(kind.name), "if": _unsaid(), "then": _ref(_key(choice))}


def _section(sections: dict[str, Schema], keys: tuple[str, ...]) -> Schema:
    """The mapping at `keys`, made when it is not there yet."""
    inner = sections.setdefault(keys[0], _mapping())
    for key in keys[1:]:
        inner = inner["properties"].setdefault(key, _mapping())
    return inner


def _mapping() -> Schema:
    return {"type": "object", "properties": {}, "additionalProperties": False}


def _requirements(choices: list[Choice]) -> Schema:
    """What a recipe that extends nothing must have."""
    top: Schema = {"properties": {}, "required": []}
    for kind in KINDS.values():
        if kind.many:
            _require_entries(top, kind, [choice.use for choice in choices if choice.kind == kind.name])
        elif kind.section and kind.default is None:
            _require_slot(top, kind)
    return top


def _require_slot(top: Schema, kind: Kind) -> None:
    schema = top
    for key in kind.section:
        if key not in schema["required"]:
            schema["required"].append(key)
        schema = schema["properties"].setdefault(key, {"properties": {}, "required": []})
    schema["required"] = [USE]


def _require_entries(top: Schema, kind: Kind, known: Mapping[str, Any] | list[str]) -> None:
    """Entries of other names than the known components' must say `use`; a section without a default must be there."""
    section = kind.section[0]
    entries: Schema = {"properties": dict.fromkeys(known, True), "additionalProperties": {"required": [USE]}}
    if section not in SECTION_DEFAULTS:
        top["required"].append(section)
        entries["minProperties"] = 1
    top["properties"][section] = entries
