"""`neuropbr plugin show`: where a component comes from and what it can be told."""

import inspect
import json
from dataclasses import asdict, dataclass

import click

from neuropbr_core.cli.lazy import Group
from neuropbr_core.cli.option_rows import OptionRow, option_rows
from neuropbr_core.cli.output import Command, result
from neuropbr_core.cli.table import aligned
from neuropbr_core.errors import PluginNotFound
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.registry import Entry, Registry, default_registry


@dataclass(frozen=True)
class Description:
    """What is known of a component.

    Attributes:
        kind: Kind of component.
        name: Its name.
        distribution: Distribution that declares it.
        version: Version of the distribution.
        group: Entry-point group.
        entry_point: Entry point's value.
        docstring: Docstring of its thin module.
        broken: What is wrong with it; None when it loads.
        options: Its options; empty when broken.
        entry_keys: Keys beside the options that the core reads from a recipe entry of its kind.
    """

    kind: str
    name: str
    distribution: str
    version: str
    group: str
    entry_point: str
    docstring: str | None
    broken: str | None
    options: list[OptionRow]
    entry_keys: list[OptionRow]


@click.group(cls=Group, short_help="Describe single components.")
def plugin() -> None:
    """Describe single components."""


@plugin.command(short_help="Show a component's origin, docstring and options.", cls=Command)
@click.argument("component", metavar="KIND/NAME")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show(context: click.Context, component: str, as_json: bool) -> None:
    """Show a component's origin, docstring and options.

    KIND/NAME is for example encoder/resnet, or encoder/neuropbr:resnet where several distributions offer the name.
    The kind may be left out where only one has the name. Loads this component alone; exits with 1 when it is broken.
    """
    registry = default_registry()
    description = _describe(registry, _resolve(registry, component))
    result(json.dumps(asdict(description), indent=2) if as_json else _text(description))
    if description.broken:
        context.exit(1)


def _resolve(registry: Registry, component: str) -> Entry:
    kind, slash, use = component.rpartition("/")
    if slash:
        return registry.find(kind, use)
    kinds = sorted({entry.kind for entry in registry.entries() if use in (entry.name, entry.qualified)})
    if len(kinds) == 1:
        return registry.find(kinds[0], use)
    if kinds:
        found = f"there are {' and '.join(f'{kind}/{use}' for kind in kinds)}"
    else:
        found = "nothing has that name"
    raise PluginNotFound(f"{component}: {found}. Write KIND/NAME; `neuropbr list-plugins` shows all")


def _describe(registry: Registry, entry: Entry) -> Description:
    defect = registry.defect(entry)
    return Description(
        kind=entry.kind,
        name=entry.name,
        distribution=entry.distribution,
        version=entry.version,
        group=entry.group,
        entry_point=entry.value,
        docstring=entry.docstring(),
        broken=defect,
        options=[] if defect else option_rows(registry.options(entry.kind, entry.qualified)),
        entry_keys=option_rows(KINDS[entry.kind].entry_options),
    )


def _text(description: Description) -> str:
    facts = [
        ("distribution", f"{description.distribution} {description.version}"),
        ("entry point", f"{description.name} = {description.entry_point} (group {description.group})"),
        ("in recipes", _place(KINDS[description.kind], description.name)),
    ]
    parts = [
        f"{description.kind}/{description.name}",
        aligned(facts, indent="  "),
        *(["", inspect.cleandoc(description.docstring)] if description.docstring else []),
        "",
        f"Broken: {description.broken}" if description.broken else _options("Options", description.options),
    ]
    if description.entry_keys:
        parts += ["", _options(f"Keys of every {description.kind} entry", description.entry_keys)]
    return "\n".join(parts)


def _place(kind: Kind, name: str) -> str:
    path = ".".join(kind.section)
    if kind.many:
        return f"{path}.<instance>.use: {name} (or {path}.{name})"
    return f"{path}.use: {name}"


def _options(title: str, rows: list[OptionRow]) -> str:
    if not rows:
        return f"{title}: none"
    header = ("NAME", "TYPE", "RANGE", "DEFAULT", "DESCRIPTION")
    cells = []
    for row in rows:
        cells.append((row.name, row.type, row.range or "-", _default(row), row.description or "-"))
    return f"{title}\n{aligned([header, *cells], indent='  ')}"


def _default(row: OptionRow) -> str:
    """A default on one line; that of a group stands with its keys."""
    if row.required:
        return "required"
    if row.default and isinstance(row.default, dict):
        return "below"
    if row.default and isinstance(row.default, str):
        return row.default
    return json.dumps(row.default)
