"""The reference tables of `docs/recipes.md`, made from the dataclasses that recipes are checked against."""

from collections.abc import Iterator
from typing import Any

from neuropbr_core.kinds import KINDS
from neuropbr_core.recipe.explain import words
from neuropbr_core.recipe.schema import Schema, compose, core_sections, entry_schema, section_order
from neuropbr_core.recipe.text import flow


def section_tables() -> str:
    """Markdown: one table for each section that the core reads, and for the keys of entries that it reads."""
    schema = compose([])
    sections = [_section(name, schema) for name in section_order() if name in core_sections()]
    entries = [_entry_table(kind.name) for kind in KINDS.values() if kind.many]
    return "\n".join([*sections, *filter(None, entries)])


def _section(name: str, schema: Schema) -> str:
    section = schema["properties"][name]
    rows = list(_rows(_mapping(section, schema) or section, schema, ()))
    return _table(f"### `{name}`", section.get("description", ""), rows)


def _entry_table(kind: str) -> str:
    """Keys that the core reads from every entry of a kind; empty when there are none."""
    own = entry_schema(KINDS[kind])
    rows = list(_rows(own, {"$defs": {}}, ()))
    if not rows:
        return ""
    title = f"### Entries of `{'.'.join(KINDS[kind].section)}`"
    return _table(title, "Beside `use` and the component's own options.", rows)


def _table(title: str, description: str, rows: list[tuple[str, ...]]) -> str:
    head = [title, "", description, "", "| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows), ""])


def _rows(section: Schema, schema: Schema, keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """One row a value, nested mappings in dotted form; components are left out."""
    for name, own in section["properties"].items():
        here = (*keys, name)
        inner = _mapping(own, schema)
        if inner is None:
            default = _default(own, required=name in section.get("required", ()))
            yield (f"`{'.'.join(here)}`", words(own, schema), default, own.get("description", ""))
        elif own.get("$ref", "").removeprefix("#/$defs/") not in KINDS:
            if "anyOf" in own:
                yield (
                    f"`{'.'.join(here)}`",
                    "a mapping or null",
                    _default(own, required=False),
                    inner.get("description", ""),
                )
            yield from _rows(inner, schema, here)


def _mapping(own: Schema, schema: Schema) -> Schema | None:
    """The schema of a mapping with keys of its own that `own` is or may be."""
    for choice in own.get("anyOf", [own]):
        target = schema["$defs"].get(choice.get("$ref", "").removeprefix("#/$defs/"), choice)
        if target.get("type") == "object" and "properties" in target:
            return dict(target)
    return None


def _default(own: dict[str, Any], *, required: bool) -> str:
    """A value's default; JSON Schema has none for what a factory makes, which is empty."""
    return "required" if required else f"`{flow(own.get('default', {}))}`"
