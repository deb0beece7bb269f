"""`neuropbr data synthesize`: captures rendered from materials."""

from pathlib import Path

import click

from neuropbr_core.cli.output import command, result


@command()
@click.option("--materials", required=True, metavar="DIR", help="Folder of material folders; `neuropbr:` paths too.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Dataset folder to write.")
@click.option("--samples", default=64, show_default=True, type=click.IntRange(1), help="Samples, spread evenly.")
@click.option("--views", default=3, show_default=True, type=click.IntRange(1, 64), help="Views of each sample.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(32, 4096), help="Side of maps in pixels.")
@click.option("--view-size", type=click.IntRange(32, 8192), help="Side of views in pixels.  [default: as --size]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of cameras, light, artefacts.")
@click.option("--procedural", default=0, show_default=True, type=click.IntRange(0), help="Procedural materials too.")
@click.option("--environments", metavar="DIR", help="Radiance maps (.hdr) to light with.  [default: procedural light]")
@click.option("--flash/--no-flash", default=True, show_default=True, help="The phone's flash, or ambient light alone.")
@click.option(
    "--dirty-fraction",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of samples rendered a second time with artefacts, into input/dirty.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--resume", is_flag=True, help="Keep the complete samples of an earlier call.")
def synthesize(  # noqa: PLR0913
    *,
    materials: str,
    out: Path,
    samples: int,
    views: int,
    size: int,
    view_size: int | None,
    seed: int,
    procedural: int,
    environments: str | None,
    flash: bool,
    dirty_fraction: float,
    device: str,
    resume: bool,
) -> None:
    """Render captures of materials, as a phone with its flash on takes them.

    Each folder below DIR holds albedo.png, roughness.png, metallic.png and normal.png (OpenGL). Views, true maps and
    cameras are written in the layout that training reads.
    """
    from neuropbr_core.data.synthesis.render import synthesize as render
    from neuropbr_core.recipe.sections import Synthesize

    plan = Synthesize(
        materials,
        samples=samples,
        size=size,
        view_size=view_size,
        seed=seed,
        procedural=procedural,
        environments=environments,
        flash=flash,
        dirty_fraction=dirty_fraction,
    )
    report = render(plan, out, views=views, resume=resume, device=device)
    dirty = f", {report.dirty} of them dirty too" if report.dirty else ""
    kept = f", kept {report.kept}" if report.kept else ""
    result(f"Rendered {report.rendered} samples into {out}{dirty}{kept}")
