"""`neuropbr data check` and `neuropbr data restore`: what is wrong with a dataset, and bad parts out of it and back."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neuropbr_core.cli.output import command, counted, result, result_json
from neuropbr_core.cli.overrides import CURRICULUM, key_option, number
from neuropbr_core.recipe.sections import Data
from neuropbr_core.reporting import reporter

if TYPE_CHECKING:
    from neuropbr_core.data.checking.check import CheckReport
    from neuropbr_core.data.checking.quarantine import Move
    from neuropbr_core.data.layout.findings import Finding

REPORT_VERSION = 1  # counted up when a program that reads the JSON would have to change


@command()
@click.argument("root", required=False, type=click.Path(path_type=Path, file_okay=False))
@key_option(Data, "input_dir", metavar="DIR")
@key_option(Data, "output_dir", metavar="DIR")
@key_option(Data, "metadata", metavar="FILE")
@key_option(Data, "views")
@click.option(
    "--curriculum",
    "--render-curriculum",
    "curriculum",
    default="mixed",
    show_default=True,
    type=CURRICULUM,
    help="Which samples to look at: 0 clean, 1 mixed, 2 dirty.",
)
@click.option("--size", type=click.IntRange(16, 8192), help="Side that all images must have; default: one for all.")
@click.option(
    "--quarantine",
    "aside",
    is_flag=False,
    flag_value="",
    metavar="[DIR]",
    help="Move samples and materials with errors to DIR (after ROOT; default ROOT/quarantine).",
)
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    metavar="CODE[:NAME]",
    help="A warning that was looked at, of one material, sample or file or of all; it becomes an info. Repeatable.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one for each CPU.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def check(  # noqa: PLR0913
    ctx: click.Context,
    *,
    root: Path | None,
    input_dir: str | None,
    output_dir: str | None,
    metadata: str | None,
    views: int,
    curriculum: str,
    size: int | None,
    aside: str | None,
    strict: bool,
    allowed: tuple[str, ...],
    workers: int | None,
    as_json: bool,
) -> None:
    """Report all that is wrong with a dataset.

    Every file of the dataset in ROOT, or in the folders that are named, is looked at. Errors keep it from being trained
    on; warnings are maps that are hardly what they should be, duplicates and strays; the rest is good to know. The exit
    status is 1 when there are errors, with --strict also for warnings, that --quarantine did not move; 2 for wrong
    usage. Cameras are checked when cameras.json is there. `neuropbr data restore DIR` moves everything back.
    """
    from neuropbr_core.data.checking.check import check_dataset
    from neuropbr_core.data.checking.quarantine import quarantine
    from neuropbr_core.data.layout.findings import allow

    section = _section(root, input_dir, output_dir, metadata, views, curriculum)
    processes = workers or os.cpu_count() or 1
    report = check_dataset(section, size=size, workers=processes)
    # After the check and not during it: an allowance that fits nothing is worth a line.
    findings, unfitting = allow(report.findings, allowed)
    report = dataclasses.replace(report, findings=findings)
    for text in unfitting:
        reporter().line(f"--allow {text}: fits no warning")
    home = root or Path(section.input_dir or "")
    moved = []
    if aside is not None:
        # `--quarantine` without a folder gives an empty text.
        moved = quarantine(section, report.findings, Path(aside or home / "quarantine"))
    # What was moved away no longer keeps the dataset from being trained on.
    levels = {finding.level for finding in _remaining(report, moved)}
    ok = "error" not in levels and not (strict and "warning" in levels)
    if as_json:
        document = {
            "version": REPORT_VERSION,
            "ok": ok,
            "strict": strict,
            "samples": report.samples,
            "materials": report.materials,
            "files": report.files,
            "sizes": report.sizes,
            "counts": {level: report.count(level) for level in ("error", "warning", "info")},
            "findings": list(map(dataclasses.asdict, report.findings)),
            "moved": list(map(dataclasses.asdict, moved)),
        }
        result_json(document)
    else:
        for line in _lines(report, moved):
            result(line)
    ctx.exit(int(not ok))


@command()
@click.argument("quarantine", type=click.Path(path_type=Path, file_okay=False))
def restore(quarantine: Path) -> None:
    """Move the contents of a QUARANTINE folder back."""
    from neuropbr_core.data.checking.quarantine import restore as move_back

    moved = move_back(quarantine)
    for move in moved:
        result(f"restored {move.source}")
    result(f"Restored {counted(len(moved), 'folder')} from {quarantine}")


def _section(
    root: Path | None, input_dir: str | None, output_dir: str | None, metadata: str | None, views: int, curriculum: str
) -> Data:
    """The section `data` that the command line describes; cameras count where there are any."""
    from neuropbr_core.data.layout.paths import locate

    if root is None and (input_dir is None or output_dir is None):
        raise click.UsageError("name a ROOT, or both --input-dir and --output-dir")
    section = Data(
        input_dir=input_dir, output_dir=output_dir, metadata=metadata, views=views, render_curriculum=number(curriculum)
    )
    if root is not None:
        section = dataclasses.replace(section, root=str(root))
    # Checked as `recorded`, so that a dataset without cameras is not an error, and damaged cameras are.
    if locate(section).cameras.exists():
        section = dataclasses.replace(section, alignment="recorded")
    return section


def _remaining(report: "CheckReport", moved: "list[Move]") -> "list[Finding]":
    """The findings that moving samples and materials away did not settle."""
    if not moved:
        return list(report.findings)
    gone = {Path(move.source) for move in moved}
    remaining = []
    for finding in report.findings:
        # Errors about a sample or a material are the reason for moving it, whichever file they name.
        if finding.level == "error" and (finding.sample is not None or finding.material is not None):
            continue
        # Other findings went with their file, or with a folder around it.
        path = Path(finding.path).resolve()
        if gone.isdisjoint((path, *path.parents)):
            remaining.append(finding)
    return remaining


def _lines(report: "CheckReport", moved: "list[Move]") -> Iterator[str]:
    """Errors and warnings one by one, the first info of each code, and a summary."""
    # A sound dataset has an info for nearly every file, which would push the errors off the screen.
    infos: dict[str, list[Finding]] = {}
    for finding in report.findings:
        if finding.level == "info":
            infos.setdefault(finding.code, []).append(finding)
        else:
            yield f"{finding.level}: {finding}"
    for same in infos.values():
        line = f"info: {same[0]}"
        if len(same) > 1:
            line += f" (and {len(same) - 1} more; --json lists all)"
        yield line
    for move in moved:
        yield f"moved: {move.source} to {move.target}"
    verdicts = []
    for level in ("error", "warning"):
        if report.count(level):
            verdicts.append(counted(report.count(level), level))
    samples = f"{counted(report.samples, 'sample')} of {counted(report.materials, 'material')}"
    yield f"{samples}, {counted(report.files, 'image')}: {', '.join(verdicts) or 'no problems'}"
