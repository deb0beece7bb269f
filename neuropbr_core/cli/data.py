"""`neuropbr data`: render and check datasets."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import click


@click.group()
def data() -> None:
    """Render and check datasets."""


@data.command()
@click.option("--materials", required=True, metavar="DIR", help="Folder of material folders; `neuropbr:` paths too.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Dataset folder to write.")
@click.option("--samples", default=64, show_default=True, type=click.IntRange(1), help="Samples, spread evenly.")
@click.option("--views", default=3, show_default=True, type=click.IntRange(1, 64), help="Views of each sample.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(32, 4096), help="Side in pixels.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of cameras and light.")
@click.option("--resume", is_flag=True, help="Keep the complete samples of an earlier call.")
def synthesize(materials: str, out: Path, samples: int, views: int, size: int, seed: int, resume: bool) -> None:
    """Render captures of materials, as a phone with its flash on takes them.

    Each folder below DIR holds albedo.png, roughness.png, metallic.png and normal.png (OpenGL). Views, true maps and
    cameras are written in the layout that training reads.
    """
    from neuropbr_core.data.progress import bar
    from neuropbr_core.data.synthesis import synthesize as render
    from neuropbr_core.recipe.sections import Synthesize

    plan = Synthesize(materials, samples=samples, size=size, seed=seed)
    report = render(plan, out, views=views, resume=resume, progress=bar)
    kept = f", kept {report.kept}" if report.kept else ""
    click.echo(f"Rendered {report.rendered} samples into {out}{kept}")


@data.command()
@click.argument("root", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--views", default=3, show_default=True, type=click.IntRange(1, 64), help="Views that a sample must have."
)
@click.option(
    "--curriculum",
    default="mixed",
    show_default=True,
    type=click.Choice(["clean", "mixed", "dirty"]),
    help="Which samples to look at.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def check(
    ctx: click.Context, root: Path, views: int, curriculum: Literal["clean", "mixed", "dirty"], as_json: bool
) -> None:
    """Decode every image of the dataset in ROOT and report all problems.

    The exit status is 1 when there are any. Cameras are checked when ROOT/input/cameras.json is there.
    """
    from neuropbr_core.data.checking import check_dataset
    from neuropbr_core.data.layout import CAMERAS_NAME
    from neuropbr_core.data.progress import bar, silent
    from neuropbr_core.recipe.sections import Data

    alignment: Literal["recorded", "none"] = "recorded" if (root / "input" / CAMERAS_NAME).exists() else "none"
    section = Data(root=str(root), views=views, render_curriculum=curriculum, alignment=alignment)
    report = check_dataset(section, progress=silent if as_json else bar)
    if as_json:
        click.echo(json.dumps({"ok": not report.problems, **dataclasses.asdict(report)}, indent=2))
    else:
        for problem in report.problems:
            click.echo(problem)
        found = f"{report.samples} samples of {report.materials} materials, {report.files} images"
        click.echo(f"{found}: {len(report.problems) or 'no'} problem{'s' if len(report.problems) != 1 else ''}")
    ctx.exit(1 if report.problems else 0)
