"""`neuropbr plugin check`: the conformance suites, as a report that people read."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from neuropbr_core.cli.completing import ComponentName
from neuropbr_core.cli.output import command, counted, result, result_json
from neuropbr_core.cli.plugin import resolve_component
from neuropbr_core.errors import NeuroPBRError, PluginBroken, PluginNotFound
from neuropbr_core.registry.catalog import Registry, default_registry
from neuropbr_core.registry.installed import Entry
from neuropbr_core.registry.names import normalized
from neuropbr_core.reporting import reporter

if TYPE_CHECKING:
    from neuropbr_core.testing.check import Conformance


@command("check", short_help="Run the conformance suites of components.")
@click.argument("name", metavar="NAME|PACKAGE", type=ComponentName())
@click.option("--full", is_flag=True, help="Long checks too: torch.compile, derivatives.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Check with this option instead of the suite's; VALUE is YAML. Repeatable; for a single component.",
)
@click.option("--all", "every", is_flag=True, help="List the checks that passed, too.")
@click.pass_context
def check(context: click.Context, name: str, full: bool, as_json: bool, settings: tuple[str, ...], every: bool) -> None:
    """Run the conformance suites of a component, or of all components of a package.

    NAME is for example loss/l1, or l1 where only one kind has the name; PACKAGE is an installed distribution. Shows
    what was tried, what failed, what the contract asks and where. Exits with 1 when a check fails.

    The suite is that in suite.py beside the component's thin module, if there is one; otherwise the suite of its kind,
    with default options.
    """
    registry = default_registry()
    entries = _entries(registry, name)
    if settings and len(entries) > 1:
        raise click.UsageError("--set is for a single component; name one as KIND/NAME")
    options = _options(settings)
    try:
        from neuropbr_core.testing.check import check_component
    except ModuleNotFoundError as error:
        raise NeuroPBRError(
            f"checks need {error.name}, which is not installed: pip install 'neuropbr[testing]'"
        ) from error
    conformances: list[Conformance] = []
    broken: list[tuple[Entry, str]] = []
    for entry in entries:
        # One line for each, because a suite may take minutes.
        reporter().line(f"checking {entry}")
        try:
            conformances.append(check_component(entry, registry, options=options, full=full))
        except PluginBroken as error:
            broken.append((entry, str(error)))
    if as_json:
        rows = []
        for conformance in conformances:
            rows.append({**asdict(conformance), "passed": conformance.passed, "broken": None})
        for entry, message in broken:
            facts = {"kind": entry.kind, "name": entry.name, "distribution": entry.distribution}
            rows.append({**facts, "version": entry.version, "checks": [], "passed": False, "broken": message})
        result_json(rows)
    else:
        for conformance in conformances:
            result(_text(conformance, every))
        for entry, message in broken:
            result(f"{entry}\n  FAILED   It loads, and its suite can be run.\n           found  {message}")
    context.exit(int(bool(broken) or not all(conformance.passed for conformance in conformances)))


def _entries(registry: Registry, name: str) -> list[Entry]:
    """The components that a name means: all of a distribution, or a single one."""
    of_package = []
    for entry in registry.entries():
        if entry.distribution == normalized(name) and not registry.blocked_by(entry):
            of_package.append(entry)
    if of_package:
        return of_package
    try:
        return [resolve_component(registry, name)]
    except PluginNotFound as error:
        packages = sorted({entry.distribution for entry in registry.entries()})
        raise PluginNotFound(f"{error}. Packages with components: {', '.join(packages)}") from error


def _options(settings: tuple[str, ...]) -> dict[str, object] | None:
    """The options of `--set`; None when none is given."""
    if not settings:
        return None
    import yaml

    options: dict[str, object] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--set {text}: write KEY=VALUE, such as --set width=8")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise click.UsageError(f"--set {text}: the value is not YAML ({error})") from error
    return options


def _text(conformance: "Conformance", every: bool) -> str:
    """The report of one component; failures have a block of lines each."""
    title = f"{conformance.kind}/{conformance.name} of {conformance.distribution} {conformance.version}"
    lines = [f"{title} ({conformance.suite})"]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for check in conformance.checks:
        counts[check.outcome] += 1
        if check.outcome == "failed":
            lines.append(f"  FAILED   {check.tried}")
            lines.append(f"           found  {check.message}")
            lines.append(f"           where  {check.where or '-'}")
            lines.append(f"           check  {check.name}")
        elif every:
            reason = ""
            if check.message:
                reason = f" ({check.message})"
            lines.append(f"  {check.outcome:<8} {check.tried}{reason}")
    total = counted(len(conformance.checks), "check")
    lines.append(f"  {total}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} not applicable")
    return "\n".join(lines)
