"""`neuropbr data merge`: one dataset out of the parts that several machines rendered."""

from pathlib import Path

import click

from neuropbr_core.cli.output import command, counted, result


@command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def merge(folder: Path) -> None:
    """Merge the parts in FOLDER/parts into one dataset in FOLDER.

    The parts come from `neuropbr data synthesize --part I/N --output FOLDER`. Nothing is written unless all parts are
    there, whole, and rendered with the same settings.
    """
    from neuropbr_core.data.synthesis.parts import merge_parts

    report = merge_parts(folder)
    result(f"Merged {counted(report.parts, 'part')} into {folder}: {counted(report.samples, 'sample')}")
