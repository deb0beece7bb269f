"""`neuropbr data`: render, import and check datasets."""

from pathlib import Path

import click

from neuropbr_core.cli.data_align import align
from neuropbr_core.cli.data_check import check, restore
from neuropbr_core.cli.data_import import import_
from neuropbr_core.cli.data_pack import pack
from neuropbr_core.cli.data_procedural import procedural


@click.group()
def data() -> None:
    """Render, import and check datasets."""


@data.command()
@click.option("--materials", required=True, metavar="DIR", help="Folder of material folders; `neuropbr:` paths too.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Dataset folder to write.")
@click.option("--samples", default=64, show_default=True, type=click.IntRange(1), help="Samples, spread evenly.")
@click.option("--views", default=3, show_default=True, type=click.IntRange(1, 64), help="Views of each sample.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(32, 4096), help="Side in pixels.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of cameras and light.")
@click.option("--procedural", default=0, show_default=True, type=click.IntRange(0), help="Procedural materials too.")
@click.option("--resume", is_flag=True, help="Keep the complete samples of an earlier call.")
def synthesize(  # noqa: PLR0913
    *, materials: str, out: Path, samples: int, views: int, size: int, seed: int, procedural: int, resume: bool
) -> None:
    """Render captures of materials, as a phone with its flash on takes them.

    Each folder below DIR holds albedo.png, roughness.png, metallic.png and normal.png (OpenGL). Views, true maps and
    cameras are written in the layout that training reads.
    """
    from neuropbr_core.data.progress import bar
    from neuropbr_core.data.synthesis import synthesize as render
    from neuropbr_core.recipe.sections import Synthesize

    plan = Synthesize(materials, samples=samples, size=size, seed=seed, procedural=procedural)
    report = render(plan, out, views=views, resume=resume, progress=bar)
    kept = f", kept {report.kept}" if report.kept else ""
    click.echo(f"Rendered {report.rendered} samples into {out}{kept}")


data.add_command(align)
data.add_command(check)
data.add_command(restore)
data.add_command(import_)
data.add_command(procedural)
data.add_command(pack)
