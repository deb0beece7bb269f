"""`neuropbr data check` and `neuropbr data restore`: what is wrong with a dataset, and bad parts out of it and back."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neuropbr_core.cli.output import command, result
from neuropbr_core.cli.overrides import CURRICULUM, key_option
from neuropbr_core.recipe.sections import Data
from neuropbr_core.reporting import reporter

if TYPE_CHECKING:
    from neuropbr_core.data.checking.check import CheckReport
    from neuropbr_core.data.checking.quarantine import Move
    from neuropbr_core.data.layout.findings import Finding

REPORT_VERSION = 1


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

    section = _section(
        root,
        input_dir,
        output_dir,
        metadata=metadata,
        views=views,
        render_curriculum=int(curriculum) if curriculum.isdigit() else curriculum,
    )
    processes = workers or os.cpu_count() or 1
    report = check_dataset(section, size=size, workers=processes)
    findings, unfitting = allow(report.findings, allowed)
    report = dataclasses.replace(report, findings=findings)
    for text in unfitting:
        reporter().line(f"--allow {text}: fits no warning")
    home = root or Path(section.input_dir or "")
    if aside is None:
        moved = []
    else:
        moved = quarantine(section, report.findings, Path(aside or home / "quarantine"))
    left = _left(report, moved)
    ok = not any(finding.level == "error" or (strict and finding.level == "warning") for finding in left)
    if as_json:
        result(json.dumps(_as_json(report, moved, ok, strict), indent=2))
    else:
        for line in _lines(report, moved):
            result(line)
    ctx.exit(0 if ok else 1)


@command()
@click.argument("quarantine", type=click.Path(path_type=Path, file_okay=False))
def restore(quarantine: Path) -> None:
    """Move what lies in a QUARANTINE folder back."""
    from neuropbr_core.data.checking.quarantine import restore as move_back

    moved = move_back(quarantine)
    for move in moved:
        result(f"restored {move.source}")
    result(f"Restored {_counted(len(moved), 'folder')} from {quarantine}")


def _section(root: Path | None, input_dir: str | None, output_dir: str | None, **keys: Any) -> Data:
    """The section `data` that the command line describes; cameras count where there are any."""
    from neuropbr_core.data.layout.paths import locate

    if root is None and (input_dir is None or output_dir is None):
        raise click.UsageError("name a ROOT, or both --input-dir and --output-dir")
    if root is None:
        home = None
    else:
        home = str(root)
    section = Data(root=home, input_dir=input_dir, output_dir=output_dir, alignment="none", **keys)
    if locate(section).cameras.exists():
        return dataclasses.replace(section, alignment="recorded")
    return section


def _left(report: "CheckReport", moved: "list[Move]") -> "list[Finding]":
    """Findings that moving did not settle."""
    gone = set()
    for move in moved:
        gone.add(Path(move.source))
    return [finding for finding in report.findings if not moved or not _is_settled(finding, gone)]


def _is_settled(finding: "Finding", gone: set[Path]) -> bool:
    if finding.level == "error" and (finding.sample is not None or finding.material is not None):
        return True
    path = Path(finding.path).resolve()
    return not gone.isdisjoint((path, *path.parents))


def _as_json(report: "CheckReport", moved: "list[Move]", ok: bool, strict: bool) -> dict[str, Any]:
    return {
        "version": REPORT_VERSION,
        "ok": ok,
        "strict": strict,
        "samples": report.samples,
        "materials": report.materials,
        "files": report.files,
        "sizes": report.sizes,
        "counts": {level: report.count(level) for level in ("error", "warning", "info")},
        "findings": [dataclasses.asdict(finding) for finding in report.findings],
        "moved": [dataclasses.asdict(move) for move in moved],
    }


def _lines(report: "CheckReport", moved: "list[Move]") -> Iterator[str]:
    """Errors and warnings one by one, what is good to know once a kind, and a summary."""
    for finding in report.findings:
        if finding.level != "info":
            yield f"{finding.level}: {finding}"
    kinds = Counter(finding.code for finding in report.findings if finding.level == "info")
    for code, count in kinds.items():
        first = next(finding for finding in report.findings if finding.code == code and finding.level == "info")
        more = ""
        if count > 1:
            more = f" (and {count - 1} more; --json lists all)"
        yield f"info: {first}{more}"
    for move in moved:
        yield f"moved: {move.source} to {move.target}"
    yield f"{_seen(report)}: {_verdict(report)}"


def _seen(report: "CheckReport") -> str:
    samples = _counted(report.samples, "sample")
    materials = _counted(report.materials, "material")
    return f"{samples} of {materials}, {_counted(report.files, 'image')}"


def _verdict(report: "CheckReport") -> str:
    counts = [(report.count("error"), "error"), (report.count("warning"), "warning")]
    return ", ".join(_counted(count, noun) for count, noun in counts if count) or "no problems"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
