"""`neuropbr list-plugins`: what is installed, and with `--check` whether it works."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import click

from neuropbr_core.cli.output import aligned, command, result
from neuropbr_core.errors import NeuroPBRError, PluginBroken
from neuropbr_core.kinds import KINDS
from neuropbr_core.registry.catalog import Registry, default_registry
from neuropbr_core.registry.installed import Entry

Status = Literal["unchecked", "ok", "unavailable", "blocked", "collision", "broken"]


@dataclass(frozen=True)
class Listed:
    """One line of the listing.

    Attributes:
        kind: Kind of component.
        name: Its name.
        distribution: Distribution that declares it.
        version: Version of the distribution.
        status: `unchecked` before it is loaded, then `ok` or `broken`; `unavailable` for an exporter that works, but
            not on this machine; `blocked`; `collision` when several distributions offer the name.
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
    registry = default_registry()
    listing = [_listed(registry, entry, check) for entry in registry.entries(kind)]
    text = _text(listing)
    if as_json:
        text = json.dumps(list(map(asdict, listing)), indent=2)
    result(text)
    if any(listed.status == "broken" for listed in listing):
        context.exit(1)


def _listed(registry: Registry, entry: Entry, check: bool) -> Listed:
    status, reason = _status(registry, entry, check)
    return Listed(entry.kind, entry.name, entry.distribution, entry.version, status, reason, entry.summary())


def _status(registry: Registry, entry: Entry, check: bool) -> tuple[Status, str | None]:
    """Status of a component, loaded only with `check`; a defect counts for more than a collision."""
    block = registry.blocked_by(entry)
    if block:
        return "blocked", str(block)
    status: Status = "unchecked"
    reason = None
    if check:
        status, reason = _check(registry, entry)
    rivals = registry.rivals(entry)
    if rivals and status != "broken":
        others = ", ".join(f"{rival.distribution} {rival.version}" for rival in rivals)
        return "collision", f"{others} has it too; write {entry.qualified} in recipes, or block one"
    return status, reason


def _check(registry: Registry, entry: Entry) -> tuple[Status, str | None]:
    defect = registry.defect(entry)
    if defect:
        return "broken", defect
    if entry.kind == "exporter":
        return _check_exporter(registry, entry)
    return "ok", None


def _check_exporter(registry: Registry, entry: Entry) -> tuple[Status, str | None]:
    """Ask an exporter whether it can work here, if it can be built without a recipe."""
    try:
        options = registry.options(entry.kind, entry.qualified)()
    except TypeError:  # an option without a default, which only a recipe can give
        return "ok", None
    try:
        availability = registry.create(entry.kind, entry.qualified, options).requirements()
    except PluginBroken as error:
        return "broken", str(error.__cause__)
    except NeuroPBRError as error:
        return "unavailable", str(error)
    except Exception as error:  # a plugin may raise anything, and the list must still name the others
        return "broken", f"requirements raised {type(error).__name__}: {error}"
    if not availability.ok:
        return "unavailable", availability.reason
    return "ok", None


def _text(listing: list[Listed]) -> str:
    if not listing:
        return "No components are installed."
    rows = [("KIND", "NAME", "DISTRIBUTION", "STATUS", "SUMMARY")]
    notes = []
    for listed in listing:
        distribution = f"{listed.distribution} {listed.version}"
        rows.append((listed.kind, listed.name, distribution, listed.status, listed.summary or "-"))
        if listed.reason:
            notes.append(f"{listed.kind}/{listed.distribution}:{listed.name} {listed.status}: {listed.reason}")
    if notes:
        notes = ["", *notes]
    return "\n".join([aligned(rows), *notes])
