"""`neuropbr evaluate`: how good a run's maps are, on samples whose true maps are known."""

from pathlib import Path

import click

from neuropbr_core.cli.output import OUTPUT, command, result


def _view_counts(_: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Read `1,2,3,5`; repeated numbers count once."""
    if text is None:
        return ()
    counts = []
    for part in text.split(","):
        if not part.strip().isdecimal() or not 1 <= int(part) <= 64:
            raise click.BadParameter(f"found {part!r}; give numbers from 1 to 64 such as 1,2,3,5", param=parameter)
        counts.append(int(part))
    return tuple(sorted(set(counts)))


@command()
@click.option("--run", "run_folder", required=True, metavar="DIR", help="A run's folder.")
@click.option("--checkpoint", default="best", show_default=True, help="best, latest or a checkpoint's name.")
@click.option("--data", metavar="DIR", help="Dataset to score, all of it; default: what the run held back.")
@click.option(
    "--render-curriculum",
    "curriculum",
    type=click.Choice(("0", "1", "2", "clean", "mixed", "dirty")),
    help="Which renders of it; default: as the run was trained.",
)
@click.option(
    "--views",
    metavar="N,…",
    callback=_view_counts,
    help="Score with the first N views of each sample, for each N; default: as the run was trained.",
)
@click.option(
    "--cameras",
    type=click.Choice(("recorded", "registered")),
    help="Cameras of input/cameras.json, or found in the photos; default: as the run was trained.",
)
@click.option("--compare", metavar="FILE", help="evaluation.json of the same samples to compare with, pair by pair.")
@click.option(*OUTPUT, metavar="DIR", help="Folder for the results; default: RUN/evaluations/NAME.")
@click.option("--worst", default=4, show_default=True, type=click.IntRange(0), help="Worst samples to draw.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
def evaluate(  # noqa: PLR0913
    *,
    run_folder: str,
    checkpoint: str,
    data: str | None,
    curriculum: str | None,
    views: tuple[int, ...],
    cameras: str | None,
    compare: str | None,
    output: str | None,
    worst: int,
    as_json: bool,
    device: str,
) -> None:
    """Score a run's maps beside the baselines.

    Errors of each map, normal angles, and re-renderings under lamps that no capture has: means over images, by
    material, by kind of capture, by class of material and by number of views, with intervals that tell a difference
    from chance. The worst cases are drawn.
    """
    import json
    from typing import cast

    from neuropbr_core.devices import choose_device
    from neuropbr_core.evaluation.summary import describe
    from neuropbr_core.runs.evaluate import CameraChoice, Curriculum
    from neuropbr_core.runs.evaluate import evaluate as score

    # A recipe writes curricula as numbers or names, but click gives text for both.
    chosen: object = curriculum
    if curriculum is not None and curriculum.isdigit():
        chosen = int(curriculum)
    evaluation = score(
        Path(run_folder),
        checkpoint=checkpoint,
        data=data,
        curriculum=cast("Curriculum | None", chosen),
        views=views,
        cameras=cast("CameraChoice | None", cameras),
        compare=compare,
        output=output,
        worst=worst,
        device=choose_device(device),
    )
    if as_json:
        # NaN is no JSON; the record has null in its place.
        result(json.dumps(evaluation.record.to_dict(), indent=2, allow_nan=False))
        return
    result(describe(evaluation.record, evaluation.trained_on))
    result(f"Results: {evaluation.folder}")
