"""`neuropbr doctor`: what is wrong with this environment, and a block to paste into a bug report."""

from dataclasses import asdict, dataclass, field

import click

from neuropbr_core.cli.list_plugins import Listed, list_components
from neuropbr_core.cli.output import aligned, command, counted, result, result_json
from neuropbr_core.diagnosis.environment import (
    DeviceState,
    ExtraState,
    PackageState,
    devices,
    environment,
    extras,
    packages,
)
from neuropbr_core.diagnosis.imports import ImportTime, trace_imports
from neuropbr_core.diagnosis.privacy import anonymous
from neuropbr_core.registry.catalog import Registry, default_registry
from neuropbr_core.registry.groups import unknown_groups


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        ok: Whether nothing is broken; what is merely not installed breaks nothing.
        environment: Facts about Python, the system and the installation.
        devices: Devices that PyTorch sees.
        packages: Packages that the core requires.
        extras: Extras of the core, with their install lines.
        components: All components with their status.
        imports: Times of imports, the slowest first; empty unless they were asked for.
        problems: What is broken, and what to do about it.
        notes: What is worth knowing: collisions, blocked names, components that cannot work on this machine.
    """

    ok: bool
    environment: dict[str, str]
    devices: list[DeviceState]
    packages: list[PackageState]
    extras: list[ExtraState]
    components: list[Listed]
    imports: list[ImportTime]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@command("doctor", short_help="Look for what is wrong with this environment.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; its key `report` is the block for a bug report.")
@click.option("--trace-plugins", is_flag=True, help="Measure how long each component's module takes to import.")
@click.pass_context
def doctor(context: click.Context, as_json: bool, trace_plugins: bool) -> None:
    """Look for what is wrong with this environment.

    Shows versions, devices, extras with their install lines, components that are broken, blocked or collide, and a
    block of text to paste into a bug report. In the block, user names and host names are replaced, and paths are
    shortened to their last two parts. Loads each component. Exits with 1 when a required package is missing or a
    component is broken.
    """
    diagnosis = diagnose(default_registry(), trace=trace_plugins)
    if as_json:
        result_json({**asdict(diagnosis), "report": report(diagnosis)})
    else:
        result(_text(diagnosis))
    context.exit(int(not diagnosis.ok))


def diagnose(registry: Registry, *, trace: bool = False) -> Diagnosis:
    """Look at the environment.

    Args:
        registry: The registry, whose components are all loaded.
        trace: Whether imports are measured, each in a process of its own.
    """
    problems = []
    notes = []
    states = packages()
    for package in states:
        if not package.ok:
            state = "is not installed"
            if package.installed:
                state = f"is installed as {package.installed}"
            problems.append(
                f"package {package.name} {state}, but neuropbr needs {package.required or 'it'}: "
                f"pip install '{package.name}{package.required}'"
            )
    device_states: list[DeviceState] = []
    try:
        device_states = devices()
    except (ImportError, OSError, RuntimeError) as error:
        problems.append(f"PyTorch does not load: {type(error).__name__}: {error}")
    listing = list_components(registry, check=True)
    for listed in listing:
        line = f"{listed.kind}/{listed.distribution}:{listed.name} {listed.status}: {listed.reason}"
        if listed.status == "broken":
            problems.append(line)
        elif listed.reason:
            notes.append(line)
    for idle in registry.idle_blocks():
        notes.append(f"the block {idle} matches no installed component; look at its spelling")
    # No problem: a package may declare components for a newer core beside those of this one.
    notes += unknown_groups()
    times: list[ImportTime] = []
    if trace:
        times = trace_imports(registry.entries())
    for time in times:
        if time.is_slow:
            brings = ""
            if time.heavy:
                brings = f"; it imports {', '.join(time.heavy)}, which belongs into the create hook"
            notes.append(f"{time.kind}/{time.name} takes {time.seconds:.2f} s to import ({time.module}){brings}")
    return Diagnosis(
        ok=not problems,
        environment=environment(),
        devices=device_states,
        packages=states,
        extras=extras(),
        components=listing,
        imports=times,
        problems=problems,
        notes=notes,
    )


def report(diagnosis: Diagnosis) -> str:
    """The diagnosis as a short block for a bug report, without user and host names; paths have two parts."""
    lines = []
    for name, value in diagnosis.environment.items():
        # The interpreter's place is the user's business.
        if name != "executable":
            lines.append(f"{name}: {value}")
    for device in diagnosis.devices:
        lines.append(f"device {device.name}: {device.description}")
    versions = [f"{package.name} {package.installed or 'missing'}" for package in diagnosis.packages]
    lines.append(f"packages: {', '.join(versions)}")
    installed = [extra.name for extra in diagnosis.extras if extra.ok]
    lines.append(f"extras: {', '.join(installed) or 'none'}")
    distributions: dict[str, int] = {}
    for listed in diagnosis.components:
        title = f"{listed.distribution} {listed.version}"
        distributions[title] = distributions.get(title, 0) + 1
    for title, count in distributions.items():
        lines.append(f"components of {title}: {count}")
    lines += [f"problem: {problem}" for problem in diagnosis.problems]
    lines += [f"note: {note}" for note in diagnosis.notes]
    return anonymous("\n".join(lines))


def _text(diagnosis: Diagnosis) -> str:
    """The diagnosis for a person at a terminal."""
    parts = ["Environment", aligned(diagnosis.environment.items(), indent="  ")]
    parts += ["", "Devices", aligned([(device.name, device.description) for device in diagnosis.devices], indent="  ")]
    rows = []
    for package in diagnosis.packages:
        wish = ""
        if not package.ok:
            wish = f"needs {package.required}"
        rows.append((package.name, package.installed or "missing", wish))
    parts += ["", "Packages", aligned(rows, indent="  ")]
    rows = []
    for extra in diagnosis.extras:
        missing = [package.name for package in extra.packages if not package.ok]
        if missing:
            rows.append((extra.name, f"without {', '.join(missing)}", extra.install))
        else:
            rows.append((extra.name, "installed", ""))
    parts += ["", "Extras", aligned(rows, indent="  ")]
    counts: dict[str, int] = {}
    for listed in diagnosis.components:
        counts[listed.status] = counts.get(listed.status, 0) + 1
    statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
    parts += ["", f"Components: {statuses or 'none'} (`neuropbr list-plugins --check` lists them)"]
    if diagnosis.imports:
        rows = []
        for time in diagnosis.imports:
            seconds = "failed"
            if time.seconds is not None:
                seconds = f"{1000 * time.seconds:.0f} ms"
            rows.append((f"{time.kind}/{time.name}", seconds, ", ".join(time.heavy)))
        parts += ["", "Imports, the slowest first", aligned(rows, indent="  ")]
    if diagnosis.notes:
        parts += ["", "Notes", *(f"  {note}" for note in diagnosis.notes)]
    if diagnosis.problems:
        parts += ["", counted(len(diagnosis.problems), "problem"), *(f"  {problem}" for problem in diagnosis.problems)]
    else:
        parts += ["", "No problems."]
    parts += [
        "",
        "For a bug report (without user and host names; paths are shortened to their last two parts):",
        "",
        "```text",
    ]
    return "\n".join([*parts, report(diagnosis), "```"])
