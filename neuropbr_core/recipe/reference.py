"""What recipes can say here, for editors and people: the schema of all components, the recipes that ship, the tables.

The tables of `docs/recipes.md` are made from the dataclasses that recipes are checked against.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from neuropbr_core.errors import PluginError
from neuropbr_core.kinds import KINDS, recipe_kinds
from neuropbr_core.recipe.english import REF, Schema, words
from neuropbr_core.recipe.schema import Choice, compose, core_sections, entry_schema, options_schema, section_order
from neuropbr_core.recipe.yaml_tree import flow, parse, read_file
from neuropbr_core.shipped import recipe_names, resolve

if TYPE_CHECKING:
    from neuropbr_core.registry.catalog import Registry


def editor_schema(registry: "Registry") -> tuple[Schema, list[PluginError]]:
    """The schema with every component that loads, by all the names that recipes may use for it.

    Returns:
        The schema, and the errors of components that do not load and are left out.
    """
    choices: list[Choice] = []
    broken: list[PluginError] = []
    for kind in recipe_kinds():
        for name in registry.names(kind.name):
            try:
                choice = Choice(kind.name, name, registry.options(kind.name, name))
                # Composed once here, so that a component without a schema is left out instead of spoiling all.
                options_schema(choice)
            except PluginError as error:
                broken.append(error)
                continue
            qualified = registry.find(kind.name, name).qualified
            choices.append(choice)
            # A recipe may also write the qualified name, and an editor must not underline it.
            if qualified != name:
                choices.append(Choice(kind.name, qualified, choice.options))
    return compose(choices, closed=True), broken


def shipped_recipes() -> list[tuple[str, str]]:
    """Names of the recipes that ship, as `neuropbr:NAME`, each with its description."""
    recipes = []
    for name in recipe_names():
        reference = f"neuropbr:{name}"
        path = resolve(reference)
        # Parsed without the checks of a recipe: a listing imports no component.
        root, _ = parse(read_file(path, str(path)), str(path))
        description = ""
        node = root.at(("description",))
        if node is not None:
            description = str(node.value)
        recipes.append((reference, description))
    return recipes


def section_tables() -> str:
    """Markdown: one table for each section that the core reads, and for the keys of entries that it reads."""
    # Without components: their options are in the tables of the packages that have them.
    schema = compose([])
    tables = []
    for name in section_order():
        if name in core_sections():
            section = schema["properties"][name]
            rows = list(_rows(_mapping(section, schema) or section, schema, ()))
            tables.append(_table(f"### `{name}`", section.get("description", ""), rows))
    for kind in recipe_kinds():
        if kind.many:
            rows = list(_rows(entry_schema(kind), {"$defs": {}}, ()))
            if rows:
                title = f"### Entries of `{'.'.join(kind.section)}`"
                tables.append(_table(title, "Beside `use` and the component's own options.", rows))
    return "\n".join(tables)


def _table(title: str, description: str, rows: list[tuple[str, ...]]) -> str:
    head = [title, "", description, "", "| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*head, *lines, ""])


def _rows(section: Schema, schema: Schema, keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """One row a value, nested mappings in dotted form; components are left out."""
    for name, own in section["properties"].items():
        here = (*keys, name)
        inner = _mapping(own, schema)
        # Components are kinds among the definitions, and are described where they are listed.
        if inner is None:
            default = _default(own, required=name in section.get("required", ()))
            yield (f"`{'.'.join(here)}`", words(own, schema["$defs"]), default, own.get("description", ""))
        elif own.get("$ref", "").removeprefix(REF) not in KINDS:
            if "anyOf" in own:
                # A mapping that may be null has a row of its own, which says what null means.
                default = _default(own, required=False)
                yield (f"`{'.'.join(here)}`", "a mapping or null", default, inner.get("description", ""))
            yield from _rows(inner, schema, here)


def _mapping(own: Schema, schema: Schema) -> Schema | None:
    """The schema of a mapping with keys of its own that `own` is or may be."""
    for choice in own.get("anyOf", [own]):
        target = schema["$defs"].get(choice.get("$ref", "").removeprefix(REF), choice)
        if target.get("type") == "object" and "properties" in target:
            return dict(target)
    return None


def _default(own: dict[str, Any], *, required: bool) -> str:
    """A value's default."""
    if required:
        return "required"
    # JSON Schema has no default for what a factory makes; those of the core's sections make empty mappings.
    return f"`{flow(own.get('default', {}))}`"
