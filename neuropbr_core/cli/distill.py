"""`neuropbr distill`: prepare what students learn from."""

from pathlib import Path

import click

from neuropbr_core.cli.lazy import Group
from neuropbr_core.cli.output import OUTPUT, Command, result
from neuropbr_core.cli.overrides import collect_overrides, set_option


@click.group(cls=Group)
def distill() -> None:
    """Prepare what students learn from."""


@distill.command(cls=Command)
@click.option("--teacher", required=True, metavar="RUN", type=click.Path(path_type=Path), help="The teacher's run.")
@click.option(
    *OUTPUT, "output", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Folder."
)
@click.option("--size", type=click.IntRange(16, 8192), help="Side of the maps in pixels.  [default: the teacher's]")
@click.option("--shard-size", default=8, show_default=True, type=click.IntRange(1), help="Samples in a shard.")
@click.option("--checkpoint", default="best", show_default=True, metavar="NAME", help="best, latest or epoch_NNNN.")
@click.option("--resume", is_flag=True, help="Keep the shards of an earlier call and predict what they lack.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or mps.  [default: the teacher's]")
@click.option("--data", metavar="DIR", help="Dataset folder with input/ and output/.  [default: the teacher's]")
@set_option
def shards(  # noqa: PLR0913 - options of a command
    *,
    teacher: Path,
    output: Path,
    size: int | None,
    shard_size: int,
    checkpoint: str,
    resume: bool,
    device: str | None,
    data: str | None,
    set_values: tuple[str, ...],
) -> None:
    """Store a teacher's predictions of its training captures, for `teacher.mode: shards`.

    A run of a student does the same for what is missing. --set changes the recipe of the teacher's run: `--set
    data.render_curriculum=2` predicts from dirty captures. Materials that were held back from the teacher are left out.
    """
    from neuropbr_core.runs.teacher import predict_logits_of_run

    # The flags become overrides of the teacher's recipe, so that its own values are their defaults.
    overrides = collect_overrides(set_values=set_values, data=data, device=device)
    report = predict_logits_of_run(
        teacher,
        output,
        checkpoint=checkpoint,
        overrides=overrides,
        size=size,
        shard_size=shard_size,
        resume=resume,
    )
    text = f"Predicted {report.predicted} samples into {report.folder}"
    if report.kept:
        text += f"; kept {report.kept}"
    if report.left:
        text += f"; {report.left} are left to other processes"
    result(text)
