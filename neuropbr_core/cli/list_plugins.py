"""`neuropbr list-plugins`: what is installed, and with `--check` whether it works."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import click

from neuropbr_core.cli.output import aligned, command, result
from neuropbr_core.errors import NeuroPBRError, PluginBroken
from neuropbr_core.kinds import KINDS
from neuropbr_core.registry.catalog import DefectError, Registry, default_registry
from neuropbr_core.registry.installed import Entry
from neuropbr_core.shown import describe

Status = Literal["unchecked", "ok", "unavailable", "blocked", "collision", "broken"]


@dataclass(frozen=True)
class Listed:
    """One line of the listing.

    Attributes:
        kind: Kind of component.
        name: Its name.
        distribution: Distribution that declares it.
        version: Version of the distribution.
        status: `unchecked` before it is loaded, then `ok` or `broken`; `unavailable` for an exporter or packager that
            works, but not on this machine; `blocked`; `collision` when several distributions offer the name.
        reason: Why it has that status; None for `ok` and `unchecked`.
        summary: First line of its docstring.
    """

    kind: str
    name: str
    distribution: str
    version: str
    status: Status
    reason: str | None
    summary: str | None


@command("list-plugins", short_help="List the installed components.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Only components of this kind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", is_flag=True, help="Load each component; exit with 1 when one is broken.")
@click.pass_context
def list_plugins(context: click.Context, kind: str | None, as_json: bool, check: bool) -> None:
    """List the installed components.

    Shows kind, name, distribution, status and summary. Without --check nothing is imported. Blocked components and
    those whose name several distributions offer are listed too, and never fail the command.
    """
    listing = list_components(default_registry(), kind, check=check)
    if as_json:
        result(json.dumps(list(map(asdict, listing)), indent=2))
    elif not listing:
        result("No components are installed.")
    else:
        rows = [("KIND", "NAME", "DISTRIBUTION", "STATUS", "SUMMARY")]
        # Reasons may be long, so they go below the table instead of into it.
        notes = []
        for listed in listing:
            distribution = f"{listed.distribution} {listed.version}"
            rows.append((listed.kind, listed.name, distribution, listed.status, listed.summary or "-"))
            if listed.reason:
                notes.append(f"{listed.kind}/{listed.distribution}:{listed.name} {listed.status}: {listed.reason}")
        if notes:
            notes = ["", *notes]
        result("\n".join([aligned(rows), *notes]))
    # A blocked or colliding component is no fault of the environment, since recipes can still be written.
    if any(listed.status == "broken" for listed in listing):
        context.exit(1)


def list_components(registry: Registry, kind: str | None = None, *, check: bool = False) -> list[Listed]:
    """List components with their status.

    Args:
        registry: The registry.
        kind: Only those of this kind.
        check: Whether each component is loaded.
    """
    listing = []
    for entry in registry.entries(kind):
        status, reason = _status(registry, entry, check)
        # The summary is read from the source, so a component that does not import has one too.
        facts = (entry.kind, entry.name, entry.distribution, entry.version)
        listing.append(Listed(*facts, status, reason, entry.summary()))
    return listing


def _status(registry: Registry, entry: Entry, check: bool) -> tuple[Status, str | None]:
    """Status of a component, loaded only with `check`; a defect counts for more than a collision."""
    block = registry.blocked_by(entry)
    if block:
        return "blocked", str(block)
    status: Status = "unchecked"
    reason = None
    if check:
        reason = registry.defect(entry)
        status = "ok"
        if reason:
            status = "broken"
        elif entry.kind in ("exporter", "packager"):
            # These alone say what they need of the machine: other packages, or an operating system.
            status, reason = _check_requirements(registry, entry)
    rivals = registry.rivals(entry)
    if rivals and status != "broken":
        others = ", ".join(f"{rival.distribution} {rival.version}" for rival in rivals)
        return "collision", f"{others} has it too; write {entry.qualified} in recipes, or block one"
    return status, reason


def _check_requirements(registry: Registry, entry: Entry) -> tuple[Status, str | None]:
    """Ask an exporter or a packager whether it can work here, if it can be built without options."""
    try:
        options = registry.options(entry.kind, entry.qualified)()
    except TypeError:  # an option without a default, which only a recipe can give
        return "ok", None
    try:
        # By its qualified name, because others may offer the bare one.
        availability = registry.create(entry.kind, entry.qualified, options).requirements()
    except PluginBroken as error:
        # The row names the component already, so its cause is enough.
        if isinstance(error.__cause__, DefectError):
            return "broken", str(error.__cause__)
        if error.__cause__ is not None:
            return "broken", f"requirements raised {describe(error.__cause__)}"
        return "broken", str(error)
    except NeuroPBRError as error:
        return "unavailable", str(error)
    except Exception as error:  # a plugin may raise anything, and the list must still name the others
        return "broken", f"requirements raised {type(error).__name__}: {error}"
    if not availability.ok:
        return "unavailable", availability.reason
    return "ok", None
