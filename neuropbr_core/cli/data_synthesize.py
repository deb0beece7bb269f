"""`neuropbr data synthesize`: captures rendered from materials."""

from pathlib import Path

import click

from neuropbr_core.cli.output import OUTPUT, command, result
from neuropbr_core.cli.overrides import key_option
from neuropbr_core.materials.capture_kinds import CAPTURE_KINDS, CaptureKind
from neuropbr_core.recipe.sections import Data, Synthesize


@command()
@key_option(Synthesize, "materials", required=True, metavar="DIR", show_default=False)
@click.option(
    *OUTPUT, "output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Dataset folder to write."
)
@key_option(Synthesize, "samples")
@key_option(Data, "views")
@key_option(Synthesize, "size")
@key_option(Synthesize, "view_size")
@key_option(Synthesize, "seed")
@key_option(Synthesize, "procedural")
@key_option(Synthesize, "environments", metavar="DIR")
@key_option(
    Synthesize, "kinds", "--kind", multiple=True, type=click.Choice(CAPTURE_KINDS), help="Kind of capture. Repeatable."
)
@key_option(Synthesize, "dirty_fraction")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes; they change no byte of the result.",
)
@click.option(
    "--part",
    metavar="I/N",
    help="Render part I of N alone, for several machines; `neuropbr data merge` makes one dataset of all parts.",
)
@click.option("--resume", is_flag=True, help="Keep the complete samples of an earlier call.")
def synthesize(  # noqa: PLR0913
    *,
    materials: str,
    output: Path,
    samples: int,
    views: int,
    size: int,
    view_size: int | None,
    seed: int,
    procedural: int,
    environments: str | None,
    kinds: tuple[CaptureKind, ...],
    dirty_fraction: float,
    device: str,
    jobs: int,
    part: str | None,
    resume: bool,
) -> None:
    """Render captures of materials, as a phone with its flash on takes them.

    Each folder below DIR holds albedo.png, roughness.png, metallic.png and normal.png (OpenGL). Views, true maps and
    cameras are written in the layout that training reads.
    """
    from neuropbr_core.data.synthesis.parts import parse_part
    from neuropbr_core.data.synthesis.render import synthesize as render

    chosen = None
    if part is not None:
        chosen = parse_part(part)
    # The recipe's own section, so that a run with the same values finds these captures complete.
    plan = Synthesize(
        materials,
        samples=samples,
        size=size,
        view_size=view_size,
        seed=seed,
        procedural=procedural,
        environments=environments,
        kinds=kinds,
        dirty_fraction=dirty_fraction,
    )
    report = render(plan, output, views=views, resume=resume, device=device, jobs=jobs, part=chosen)
    line = f"Rendered {report.rendered} samples into {report.folder}"
    if report.dirty:
        line += f", {report.dirty} of them dirty too"
    if report.kept:
        line += f", kept {report.kept}"
    result(line)
