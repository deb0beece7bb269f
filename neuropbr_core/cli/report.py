"""`neuropbr report`: runs and maps on one page."""

from pathlib import Path

import click

from neuropbr_core.cli.output import OUTPUT, command, result
from neuropbr_core.reporting import doing


@command()
@click.argument("folders", nargs=-1, required=True, metavar="RUN|MAPS…")
@click.option(
    *OUTPUT,
    metavar="FILE",
    help="The page.  [default: report.html in the folder; of several folders, here]",
)
@click.option(
    "--picture",
    metavar="FILE",
    help="Also draw photos, maps and the material on a ball into a .png or .jpg file, of the first material.",
)
@click.option("--overwrite", is_flag=True, help="Replace a page or picture that neuropbr did not write.")
@click.option(
    "--samples",
    default=2,
    show_default=True,
    type=click.IntRange(0, 50),
    help="Best and worst samples of runs to show, each.",
)
@click.option(
    "--map-side",
    type=click.IntRange(16, 8192),
    metavar="N",
    help="Shrink maps to N pixels a side. [default: 512 for runs, else 1024]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps; for samples of runs.")
def report(
    *,
    folders: tuple[str, ...],
    output: str | None,
    picture: str | None,
    overwrite: bool,
    samples: int,
    map_side: int | None,
    device: str,
) -> None:
    """Show runs and maps on one HTML page.

    RUN is the folder of a run; several runs are compared, on samples of the first one. MAPS is a folder of maps, as
    `neuropbr infer` writes it. The page is one file that opens offline: pictures with a wipe, a preview with a lamp to
    move, curves, scores beside baselines, recipes and records.
    """
    from neuropbr_core.devices import choose_device
    from neuropbr_core.errors import DataError
    from neuropbr_core.ownership import refuse_foreign, remember_written
    from neuropbr_core.report import MAP_SIDE, REPORT_NAME, check_report_place, write_page, write_report
    from neuropbr_core.report.strip import SUFFIXES, write_strip
    from neuropbr_core.runs.report import SAMPLE_SIDE, report_of_folders

    if output is not None:
        path = Path(output)
    elif len(folders) == 1:
        path = Path(folders[0]) / REPORT_NAME
    else:
        path = Path(REPORT_NAME)
    drawing = None
    if picture is not None:
        drawing = Path(picture)
        if drawing.suffix.lower() not in SUFFIXES:
            raise click.UsageError(f"--picture {picture}: allowed are the suffixes {', '.join(SUFFIXES)}")
        refuse_foreign(drawing.parent, [drawing.name], overwrite=overwrite, option="--picture")
    # Before samples are predicted, which takes a while.
    check_report_place(path, overwrite=overwrite)
    with doing("collecting what the page shows"):
        content = report_of_folders([Path(folder) for folder in folders], samples=samples, device=choose_device(device))
    if map_side is None:
        map_side = MAP_SIDE
        # A page with runs shows many materials.
        if content.runs:
            map_side = SAMPLE_SIDE
    if drawing is not None and not content.showcases:
        raise DataError(f"{', '.join(folders)}: no material is there to draw; name a folder of maps")
    with doing("writing the page"):
        write_report(path, write_page(content, map_side=map_side))
    for run in content.runs:
        for note in run.notes:
            result(f"{run.name}: {note}")
    result(f"wrote {path}")
    if drawing is not None:
        write_strip(drawing, content.showcases[0])
        remember_written(drawing.parent, [drawing])
        result(f"wrote {drawing}")
