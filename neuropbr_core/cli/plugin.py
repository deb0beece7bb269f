"""`neuropbr plugin`: describe, check and begin components; `plugin show` is here."""

import inspect
import json
from dataclasses import asdict, dataclass

import click

from neuropbr_core.cli.completing import ComponentName
from neuropbr_core.cli.lazy import LazyCommand, LazyGroup
from neuropbr_core.cli.option_rows import OptionRow, option_rows
from neuropbr_core.cli.output import aligned, command, result, result_json
from neuropbr_core.errors import PluginNotFound
from neuropbr_core.kinds import KINDS
from neuropbr_core.registry.catalog import Registry, default_registry
from neuropbr_core.registry.groups import unknown_groups
from neuropbr_core.registry.installed import Entry
from neuropbr_core.suggestions import did_you_mean


@dataclass(frozen=True)
class Description:
    """What is known of a component.

    Attributes:
        kind: Kind of component.
        name: Its name.
        use: What recipes and commands call it.
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
    use: str
    distribution: str
    version: str
    group: str
    entry_point: str
    docstring: str | None
    broken: str | None
    options: list[OptionRow]
    entry_keys: list[OptionRow]


COMMANDS = {
    "show": LazyCommand("neuropbr_core.cli.plugin:show", "Show a component's origin, docstring and options."),
    "new": LazyCommand(
        "neuropbr_core.cli.plugin_new:new", "Write a package with a component, or add one to a package."
    ),
    "update": LazyCommand("neuropbr_core.cli.plugin_new:update", "Bring a package up to the current template."),
    "check": LazyCommand("neuropbr_core.cli.plugin_check:check", "Run the conformance suites of components."),
}


@click.group(cls=LazyGroup, table=COMMANDS, short_help="Describe, check and begin components.")
def plugin() -> None:
    """Describe, check and begin components."""


@command("show", short_help="Show a component's origin, docstring and options.")
@click.argument("component", metavar="KIND/NAME", type=ComponentName())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show(context: click.Context, component: str, as_json: bool) -> None:
    """Show a component's origin, docstring and options.

    KIND/NAME is for example encoder/resnet, or encoder/neuropbr:resnet where several distributions offer the name.
    The kind may be left out where only one has the name. Loads this component alone; exits with 1 when it is broken.
    """
    registry = default_registry()
    entry = resolve_component(registry, component)
    # A component that does not load has no options to show, but the rest helps to find out why.
    defect = registry.defect(entry)
    options: list[OptionRow] = []
    if not defect:
        options = option_rows(registry.options(entry.kind, entry.qualified))
    use = entry.name
    # A bare name that several distributions offer means another component, or none.
    if registry.rivals(entry):
        use = entry.qualified
    description = Description(
        kind=entry.kind,
        name=entry.name,
        use=use,
        distribution=entry.distribution,
        version=entry.version,
        group=entry.group,
        entry_point=entry.value,
        docstring=entry.docstring(),
        broken=defect,
        options=options,
        entry_keys=option_rows(KINDS[entry.kind].entry_options),
    )
    if as_json:
        result_json(asdict(description))
    else:
        result(_text(description))
    if description.broken:
        context.exit(1)


def resolve_component(registry: Registry, component: str) -> Entry:
    """Find the component that `KIND/NAME`, or a name that only one kind has, means.

    Raises:
        PluginNotFound: There is none, or several kinds have the name.
        PluginError: It is blocked, or several distributions offer it.
    """
    kind, slash, use = component.rpartition("/")
    if slash:
        return registry.find(kind, use)
    # By kind: several distributions that offer a name under one kind are a collision, which `find` reports.
    candidates = {}
    for entry in registry.entries():
        if use in (entry.name, entry.qualified):
            candidates[entry.kind] = f"{entry.kind}/{use}"
    if len(candidates) == 1:
        return registry.find(next(iter(candidates)), use)
    if candidates:
        state = f"there are {' and '.join(candidates.values())}."
    else:
        state = f"nothing has that name.{did_you_mean(use, (entry.name for entry in registry.entries()))}"
        for sentence in unknown_groups():
            state += f" {sentence}"
    raise PluginNotFound(f"{component}: {state} Write KIND/NAME; `neuropbr list-plugins` shows all")


def _text(description: Description) -> str:
    kind = KINDS[description.kind]
    path = ".".join(kind.section)
    place = f"{path}.use: {description.use}"
    if kind.many:
        place = f"{path}.<instance>.use: {description.use}"
        # A qualified name is no name for an entry.
        if description.use == description.name:
            place += f" (or {path}.{description.name})"
    facts = [
        ("distribution", f"{description.distribution} {description.version}"),
        ("entry point", f"{description.name} = {description.entry_point} (group {description.group})"),
        ("in recipes", place),
    ]
    if not kind.in_recipes:
        facts[-1] = ("in commands", f"--for {description.use} --option {description.name}.KEY=VALUE")
    parts = [f"{description.kind}/{description.name}", aligned(facts, indent="  ")]
    if description.docstring:
        parts += ["", inspect.cleandoc(description.docstring)]
    if description.broken:
        parts += ["", f"Broken: {description.broken}"]
    else:
        parts += ["", _options("Options", description.options)]
    if description.entry_keys:
        parts += ["", _options(f"Keys of every {description.kind} entry", description.entry_keys)]
    return "\n".join(parts)


def _options(title: str, rows: list[OptionRow]) -> str:
    if not rows:
        return f"{title}: none"
    cells = [("NAME", "TYPE", "RANGE", "DEFAULT", "DESCRIPTION")]
    for row in rows:
        if row.required:
            default = "required"
        elif row.default and isinstance(row.default, dict):
            default = "below"  # the default of a nested mapping is shown with its keys, in the rows below
        elif row.default and isinstance(row.default, str):
            default = row.default  # without quotes, as one writes it in a recipe; an empty text needs them
        else:
            default = json.dumps(row.default)
        cells.append((row.name, row.type, row.range or "-", default, row.description or "-"))
    return f"{title}\n{aligned(cells, indent='  ')}"
