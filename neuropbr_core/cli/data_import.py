"""`neuropbr data import`: materials from elsewhere."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from neuropbr_core.cli.output import OUTPUT, aligned, command, result, result_json

if TYPE_CHECKING:
    from neuropbr_core.data.importing.import_sets import ImportReport

# Counted up when a program that reads the JSON would have to change: since 2, `ignored` lists objects, and materials
# may be `planned`.
REPORT_VERSION = 2


@command("import")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    *OUTPUT, "output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Dataset folder."
)
@click.option("--size", type=click.IntRange(16, 8192), help="Side of the maps; default: that of each albedo.")
@click.option(
    "--name-template",
    default="{name}",
    show_default=True,
    metavar="TEXT",
    help="Name of a material: {name} from its files, {folder} they are in.",
)
@click.option(
    "--matsynth", is_flag=True, help="Stream the public data set MatSynth, or SOURCE of the same form; `[matsynth]`."
)
@click.option("--limit", type=click.IntRange(1), help="With --matsynth: materials after which to stop.")
@click.option("--crop", is_flag=True, help="Take the middle of images that are not square, which then no longer tile.")
@click.option(
    "--assume-nonmetal", is_flag=True, help="No part is metal: a specular map is then no reason to refuse a material."
)
@click.option("--dry-run", is_flag=True, help="Write nothing; print what would be imported, from which files.")
@click.option("--overwrite", is_flag=True, help="Replace materials of the same name.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one for each CPU.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def import_(  # noqa: PLR0913
    ctx: click.Context,
    *,
    source: Path | None,
    output: Path,
    size: int | None,
    name_template: str,
    matsynth: bool,
    limit: int | None,
    crop: bool,
    assume_nonmetal: bool,
    dry_run: bool,
    overwrite: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Bring materials into a dataset's output folder.

    SOURCE is a folder, zip files in it included, or a zip file, with the naming customs of ambientCG, Poly Haven,
    Megascans, Poliigon, 3dtextures, FreePBR, Unity, Unreal, Substance and the like. Normals become OpenGL, glossiness
    roughness, packed maps single ones; the report says what was done to each material, and names the images that it did
    not understand. A material is written whole or not at all. The exit status is 1 when any was refused.

    With --matsynth, SOURCE is a folder of parquet files or a data set of the hub; without SOURCE, MatSynth itself. The
    licence of each material is written to DIRECTORY/matsynth.json. The same command continues an interrupted import.
    """
    from neuropbr_core.data.importing.import_sets import import_materials

    if matsynth:
        from neuropbr_core.data.importing.matsynth import import_matsynth

        files_only = ("crop", "assume_nonmetal", "dry_run", "workers", "name_template")
        given = [name for name in files_only if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise click.UsageError(f"{flags}: for files alone; --matsynth takes rows as they are")
        named = None if source is None else str(source)
        report = import_matsynth(named, output, size=size, limit=limit, overwrite=overwrite)
    elif source is None:
        raise click.UsageError("Missing argument 'SOURCE'.")
    elif limit is not None:
        raise click.UsageError("--limit belongs to --matsynth; name the folders that you want instead")
    else:
        report = import_materials(
            source,
            output,
            size=size,
            name_template=name_template,
            crop=crop,
            overwrite=overwrite,
            assume_nonmetal=assume_nonmetal,
            dry_run=dry_run,
            workers=workers or os.cpu_count() or 1,
        )
    ok = not report.count("refused")
    if as_json:
        result_json({"version": REPORT_VERSION, "ok": ok, **dataclasses.asdict(report)})
    else:
        for line in _lines(report, output, dry_run=dry_run):
            result(line)
    ctx.exit(int(not ok))


def _lines(report: "ImportReport", output: Path, *, dry_run: bool) -> Iterator[str]:
    """A row a material, its notes below it, and a summary."""
    rows = []
    for material in report.materials:
        side = "-"  # of a material that was refused before its size was known
        if material.size:
            side = f"{material.size}×{material.size}"
        rows.append((material.name, material.status, side))
    # The table is laid out first, because columns are as wide as their widest cell; notes then go between its rows.
    for row, material in zip(aligned(rows).splitlines(), report.materials, strict=True):
        yield row
        if dry_run:
            for name, file in material.files.items():
                yield f"    {name}: from {file}"
        for note in material.notes:
            yield f"    {note}"
    unneeded = Counter[str]()
    for image in report.ignored:
        if image.kind:
            unneeded[image.kind] += 1
        else:
            yield f"not understood: {image.path}: {image.looks}"
    if unneeded:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(unneeded.items()))
        yield f"not needed: {kinds}"
    if dry_run:
        line = f"Would import {report.count('planned')} of {len(report.materials)} materials into {output / 'output'}"
    else:
        line = f"Imported {report.count('imported')} of {len(report.materials)} materials into {output / 'output'}"
    if report.count("exists"):
        line += f", {report.count('exists')} there already"
    if report.count("refused"):
        line += f", {report.count('refused')} refused"
    yield line
