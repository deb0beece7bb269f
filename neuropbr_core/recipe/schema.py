"""One JSON Schema (draft 2020-12) for a whole recipe, from the core's dataclasses and the options of components.

Which options an entry may have is decided by `if`/`then` on its `use`, one rule a component; `oneOf` would report the
mistakes of every component that was not meant. The same schema serves the checker, with the components that one recipe
names, and editors, with all that are installed.
"""

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args
from urllib.parse import quote

import msgspec

from neuropbr_core.errors import PluginBroken
from neuropbr_core.kinds import KINDS, Kind, recipe_kinds
from neuropbr_core.recipe.english import REF, Schema
from neuropbr_core.recipe.merge import EXTENDS, PLUGINS, SECTION_DEFAULTS, USE, entry_keys
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.options import belongings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLE = "NeuroPBR recipe"
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
"""What the names of instances look like: they become file names and parts of metric names."""


@dataclass(frozen=True)
class Choice:
    """A component that a recipe may name.

    Attributes:
        kind: Name of its kind.
        use: How recipes name it: `name` or `distribution:name`.
        options: Dataclass of its options; None for one that cannot be loaded, whose entry is then not examined.
    """

    kind: str
    use: str
    options: type | None


def core_sections() -> dict[str, type]:
    """The sections (or, for `model`, the part of it) that are one dataclass of the core, in order."""
    sections = {}
    for field in fields(Recipe):
        # The type of an optional section is `Section | None`, of which the first argument counts.
        cls = next(iter(get_args(field.type)), field.type)
        if isinstance(cls, type) and is_dataclass(cls) and cls is not Chosen:
            sections[field.name] = cls
    return sections


def optional_sections() -> set[str]:
    """The sections of the core that are None, and not a section of defaults, when a recipe leaves them out."""
    return {field.name for field in fields(Recipe) if isinstance(field.type, UnionType)}


def section_order() -> list[str]:
    """All sections, in the order in which a resolved recipe is written: that of the fields of `Recipe`."""
    # A component of `Recipe` such as `encoder` is written inside a section, here `model`.
    section_of = {kind.section[-1]: kind.section[0] for kind in KINDS.values() if kind.section}
    core = core_sections()
    order = []
    for field in fields(Recipe):
        name = section_of.get(field.name, field.name)
        if name not in order and (name in core or name in section_of.values()):
            order.append(name)
    return order


def compose(choices: list[Choice], *, closed: bool = False) -> Schema:
    """Compose the schema of a recipe.

    Args:
        choices: The components that entries may name.
        closed: Allow no others; for editors, which then offer the names. A checker leaves unknown names to the
            registry, which knows why it cannot have them.

    Returns:
        The schema.
    """
    sections, defs = _sections(choices, recipe_kinds(), closed=closed)
    text: Schema = {"type": "string"}
    properties = {
        EXTENDS: {
            "anyOf": [text, {"type": "array", "items": text}],
            "description": "Recipes that this one starts from; relative to this file.",
        },
        "name": {**text, "pattern": NAME_PATTERN, "description": "Name of its runs; default: the file's name."},
        "description": {**text, "description": "One line for people."},
        PLUGINS: {
            "type": "array",
            "items": text,
            "description": "Python files, each with a component of its own; relative to this file.",
        },
        **{name: sections[name] for name in section_order()},
    }
    return {
        "$schema": DIALECT,
        "title": TITLE,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        # A file that extends another may leave out what the other has; the checker sees the merged tree, without it.
        "if": {"required": [EXTENDS]},
        "else": _requirements(choices),
        "$defs": defs,
    }


def compose_entries(choices: list[Choice], names: Iterable[str]) -> Schema:
    """Compose the schema of some sections of components alone, such as `export`.

    Args:
        choices: The components that entries may name.
        names: The sections; those of kinds that recipes do not name are among the possible ones.
    """
    # Only the sections that are there: the whole schema would report all others as missing.
    sections, defs = _sections(choices, KINDS.values(), closed=False)
    return {"type": "object", "properties": {name: sections[name] for name in names}, "$defs": defs}


def _sections(choices: list[Choice], kinds: Iterable[Kind], *, closed: bool) -> tuple[dict[str, Schema], Schema]:
    """Schemas of the core's sections and of those of `kinds`, and the definitions that they refer to."""
    defs: Schema = {}
    for choice in choices:
        # An empty schema allows everything: what a broken component would allow is not known.
        if choice.options is None:
            defs[_key(choice)] = {}
        else:
            own, inner = options_schema(choice)
            defs |= {_key(choice): own, **inner}
    # Sections come before entries: components are placed into mappings that the sections may already have.
    sections = _core(defs)
    for kind in kinds:
        if not kind.section:
            continue
        defs[kind.name] = _entry(kind, choices, closed=closed)
        if not kind.many:
            # Components come before the section's own keys, in editors as in resolved recipes.
            outer = _section(sections, kind.section[:-1])
            outer["properties"] = {kind.section[-1]: _ref(kind.name), **outer["properties"]}
            continue
        section = _section(sections, kind.section)
        section["additionalProperties"] = _ref(kind.name)
        section["propertyNames"] = {"pattern": NAME_PATTERN}
        for choice in choices:
            # A key with a colon is no name for an entry, so only bare names can stand for `use`.
            if choice.kind == kind.name and ":" not in choice.use:
                rule = {"if": _without_use(), "then": _ref(_key(choice))}
                section["properties"][choice.use] = {**_ref(kind.name), **rule}
    return sections, defs


def options_schema(choice: Choice) -> tuple[Schema, Schema]:
    """Schema of a component's entry, and the definitions that it refers to.

    Raises:
        PluginBroken: The options are no dataclass, cannot be described, or take a name that recipes reserve.
    """
    kind = KINDS[choice.kind]
    label = f"{choice.kind}/{choice.use}"
    if not is_dataclass(choice.options):
        raise PluginBroken(f"{label}: `{kind.options_hook}` must return a dataclass, not {choice.options!r}")
    own, defs = _describe(choice.options, f"{choice.kind}.{choice.use}.", label)
    core, core_defs = _describe(kind.entry_options, f"{choice.kind}.", label)
    clash = sorted(set(own["properties"]) & set(entry_keys(kind)))
    if clash:
        raise PluginBroken(f"{label}: option `{clash[0]}` has a name that recipes reserve; its author must rename it")
    # In the order in which a resolved recipe has them: the name, the core's keys, the component's options.
    use = {"type": "string", "description": f"Component of kind {choice.kind}."}
    own = {**own, "properties": {USE: use, **core["properties"], **own["properties"]}}
    return own, {**core_defs, **defs}


def owned_options(options: type) -> dict[str, tuple[str, object]]:
    """The options that belong to a choice: for each, the option that chooses, and the default of that option.

    Args:
        options: Dataclass of a component's options, checked by the registry.

    Returns:
        Pairs by option; the default is `dataclasses.MISSING` where the option that chooses has none.
    """
    defaults: dict[str, object] = {}
    for field in fields(options):
        defaults[field.name] = field.default
        # A mutable default, such as a list, is made anew for each instance.
        if field.default_factory is not MISSING:
            defaults[field.name] = field.default_factory()
    owned = {}
    for name, owner in belongings(options).items():
        owned[name] = (owner, defaults[owner])
    return owned


def key_schema(section: type, key: str) -> Schema:
    """Schema of one key of a section, with its description and default."""
    own, _ = _describe(section, "", section.__name__)
    schema: Schema = own["properties"][key]
    return schema


def entry_schema(kind: Kind) -> Schema:
    """Schema of the keys that the core itself reads from an entry of `kind`."""
    own, _ = _describe(kind.entry_options, "", kind.name)
    return own


def _describe(options: type, prefix: str, label: str) -> tuple[Schema, Schema]:
    """Schema of a dataclass, and apart from it the definitions that it refers to; both forbid unknown keys."""
    # The prefix keeps apart dataclasses of one name in different components, such as two called `Options`.
    try:
        (ref,), defs = msgspec.json.schema_components([options], ref_template=f"{REF}{prefix}{{name}}")
    except (TypeError, RuntimeError) as error:
        raise PluginBroken(f"{label}: its options cannot be described as JSON Schema: {error}") from error
    _close(defs)
    own = defs.pop(ref["$ref"].removeprefix(REF + prefix))
    return own, {prefix + name: schema for name, schema in defs.items()}


def _close(schema: Any) -> None:
    """Forbid, everywhere in `schema`, keys that a mapping does not list."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            # msgspec ignores unknown keys unless told otherwise; in a recipe they are misspellings.
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            _close(value)
    elif isinstance(schema, list):
        for value in schema:
            _close(value)


def _key(choice: Choice) -> str:
    return f"{choice.kind}.{choice.use}"


def _ref(key: str) -> Schema:
    # A reference is a JSON pointer (RFC 6901) in a URI. A recipe may `use` any text, such as a path with slashes.
    pointer = key.replace("~", "~0").replace("/", "~1")
    return {"$ref": REF + quote(pointer, safe="~:")}


def _core(defs: Schema) -> dict[str, Schema]:
    """Schemas of all sections, without their components; adds to `defs` what they refer to."""
    types = core_sections()
    _, inner = msgspec.json.schema_components(list(types.values()), ref_template=REF + "{name}")
    _close(inner)
    sections: dict[str, Schema] = {}
    for name, cls in types.items():
        if name not in optional_sections():
            sections[name] = inner.pop(cls.__name__)
    # A section that may be null stays a definition, so that its description is beside the alternatives.
    for name in optional_sections():
        definition = types[name].__name__
        description = inner[definition].get("description", "")
        alternatives = [{"type": "null"}, _ref(definition)]
        sections[name] = {"anyOf": alternatives, "default": None, "description": description}
    defs.update(inner)
    return sections


def _entry(kind: Kind, choices: list[Choice], *, closed: bool) -> Schema:
    """Schema of an entry that says `use`."""
    use: Schema = {"type": "string", "description": f"Component of kind {kind.name}."}
    entry: Schema = {"type": "object", "properties": {USE: use}}
    if kind.many:
        entry["type"] = ["object", "null"]  # null removes an inherited entry
    # Editors complete names from an enumeration, and underline all others.
    if closed:
        use["enum"] = []
    rules = []
    for choice in choices:
        if choice.kind != kind.name:
            continue
        named = {"type": "object", "required": [USE], "properties": {USE: {"const": choice.use}}}
        rules.append({"if": named, "then": _ref(_key(choice))})
        # An entry of a slot with a default may leave `use` out and set that component's options.
        if choice.use == kind.default:
            rules.append({"if": _without_use(), "then": _ref(_key(choice))})
        if closed:
            use["enum"].append(choice.use)
    if rules:
        entry["allOf"] = rules
    return entry


def _without_use() -> Schema:
    """Matches an entry that does not have `use`."""
    return {"type": "object", "not": {"required": [USE]}}


def _section(sections: dict[str, Schema], keys: tuple[str, ...]) -> Schema:
    """The schema of the mapping at `keys`, added when there is none yet."""
    inner = sections.setdefault(keys[0], _mapping())
    for key in keys[1:]:
        inner = inner["properties"].setdefault(key, _mapping())
    return inner


def _mapping() -> Schema:
    return {"type": "object", "properties": {}, "additionalProperties": False}


def _requirements(choices: list[Choice]) -> Schema:
    """The keys that a recipe must have when it extends nothing."""
    top: Schema = {"properties": {}, "required": []}
    for kind in recipe_kinds():
        if kind.many:
            # An entry that is named like a component needs no `use`; a section without a default must be there.
            section = kind.section[0]
            known = {}
            for choice in choices:
                if choice.kind == kind.name:
                    known[choice.use] = True
            entries: Schema = {"properties": known, "additionalProperties": {"required": [USE]}}
            if section not in SECTION_DEFAULTS:
                top["required"].append(section)
                entries["minProperties"] = 1
            top["properties"][section] = entries
        elif kind.section and kind.default is None:
            # A slot without a default must name its component, and so every mapping around it must be there.
            schema = top
            for key in kind.section:
                if key not in schema["required"]:
                    schema["required"].append(key)
                schema = schema["properties"].setdefault(key, {"properties": {}, "required": []})
            schema["required"] = [USE]
    return top
