"""`neuropbr list-plugins`: what is installed, and with `--check` whether it works."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

import neuropbr_core
from neuropbr_core.cli.faults import Session
from neuropbr_core.cli.output import aligned, command, result, text_of_json
from neuropbr_core.errors import NeuroPBRError, PluginBroken
from neuropbr_core.kinds import KINDS
from neuropbr_core.recipe.watched import python_files
from neuropbr_core.registry.catalog import DefectError, Registry, check_source, default_registry, packages_needed
from neuropbr_core.registry.groups import unknown_groups
from neuropbr_core.registry.installed import Entry, metadata_files
from neuropbr_core.reporting import reporter
from neuropbr_core.shown import describe


@dataclass(frozen=True)
class Listed:
    """One line of the listing.

    Attributes:
        kind: Kind of component.
        name: Its name.
        distribution: Distribution that declares it.
        version: Version of the distribution.
        status: `ready`; `needs PACKAGE`, such as `needs neuropbr[coreml]`, when something must be installed first;
            `blocked`; `collision` when several distributions offer the name; `broken`. Only after it was loaded:
            `unavailable` for an exporter or packager that works, but not on this machine.
        reason: Why it has that status; None for `ready`.
        summary: First line of its docstring.
    """

    kind: str
    name: str
    distribution: str
    version: str
    status: str
    reason: str | None
    summary: str | None


@command("list-plugins", short_help="List the installed components.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Only components of this kind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", is_flag=True, help="Load each component; exit with 1 when one is broken.")
@click.pass_context
def list_plugins(context: click.Context, kind: str | None, as_json: bool, check: bool) -> None:
    """List the installed components.

    STATUS tells what can be used here: ready; needs PACKAGE, which pip can install; blocked; collision, when several
    distributions offer the name; or broken. It is read from metadata and sources, and nothing is imported. --check
    imports each component and asks it what it needs.
    """
    registry = default_registry()
    warnings = unknown_groups()
    for sentence in warnings:
        reporter().warning(sentence)
    listing = list_components(registry, kind, check=check)
    if as_json:
        answer = text_of_json(list(map(asdict, listing)))
    else:
        answer = _table(listing)
    result(answer)
    is_broken = any(listed.status == "broken" for listed in listing)
    # What a component says when it is loaded may depend on anything, and what is missing has no file to watch.
    if not (check or warnings or is_broken):
        sources = [source for entry in registry.entries() if (source := entry.source())]
        own = python_files(Path(neuropbr_core.__file__).parent)
        context.ensure_object(Session).keep(answer, [*sources, *metadata_files(), *own])
    # A blocked or colliding component is no fault of the environment, since recipes can still be written.
    if check and is_broken:
        context.exit(1)


def _table(listing: Sequence[Listed]) -> str:
    """The listing for people."""
    if not listing:
        return "No components are installed."
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
    return "\n".join([aligned(rows), *notes])


def list_components(registry: Registry, kind: str | None = None, *, check: bool = False) -> list[Listed]:
    """List components with their status.

    Args:
        registry: The registry.
        kind: Only those of this kind.
        check: Whether each component is loaded.
    """
    listing = []
    for entry in registry.entries(kind):
        defect = None
        try:
            thin = check_source(entry)
        except DefectError as error:
            thin = entry.thin_module()
            defect = str(error)
        block = registry.blocked_by(entry)
        if block:
            status = "blocked"
            reason: str | None = str(block)
        elif defect:
            status = "broken"
            reason = defect
        else:
            status, reason = _status(registry, entry, packages_needed(thin), check)
        # The summary is read from the source, so a component that does not import has one too.
        summary = None
        if thin is not None:
            summary = thin.summary
        listing.append(Listed(entry.kind, entry.name, entry.distribution, entry.version, status, reason, summary))
    return listing


def _status(registry: Registry, entry: Entry, needed: dict[str, list[str]], check: bool) -> tuple[str, str | None]:
    """Status of a component whose source shows no fault; a defect counts for more than a collision."""
    status = "ready"
    reason = None
    if needed:
        status = f"needs {' '.join(needed)}"
        lines = []
        for package, modules in needed.items():
            verb = "are"
            if len(modules) == 1:
                verb = "is"
            lines.append(f"{' and '.join(modules)} {verb} not installed; pip install '{package}'")
        reason = "; ".join(lines)
    if check:
        defect = registry.defect(entry)
        if defect:
            return "broken", defect
        # These alone tell what they need of the machine, for example an operating system.
        if not needed and entry.kind in ("exporter", "packager"):
            status, reason = _check_requirements(registry, entry)
    rivals = registry.rivals(entry)
    if rivals and status != "broken":
        others = ", ".join(f"{rival.distribution} {rival.version}" for rival in rivals)
        return "collision", f"{others} has it too; write {entry.qualified} in recipes, or block one"
    return status, reason


def _check_requirements(registry: Registry, entry: Entry) -> tuple[str, str | None]:
    """Ask an exporter or a packager whether it can work here, if it can be built without options."""
    try:
        options = registry.options(entry.kind, entry.qualified)()
    except TypeError:  # an option without a default, which only a recipe can give
        return "ready", None
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
    return "ready", None
