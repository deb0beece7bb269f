"""`neuropbr evaluate`: how good a model's maps are, on samples whose true maps are known."""

import click

from neuropbr_core.cli.chosen_model import load_chosen, model_options
from neuropbr_core.cli.output import OUTPUT, command, result, result_json
from neuropbr_core.cli.refining import chosen_steps, scored_refine_option


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
@model_options
@click.option("--data", metavar="DIR", help="Dataset to score, all of it; default: what the run held back.")
@click.option(
    "--render-curriculum",
    "curriculum",
    type=click.Choice(("0", "1", "2", "clean", "mixed", "dirty")),
    help="Which renders of it; default: as the run was trained, or clean.",
)
@click.option(
    "--views",
    metavar="N,…",
    callback=_view_counts,
    help="Score with the first N views of each sample, for each N; default: as the model was trained.",
)
@click.option(
    "--cameras",
    type=click.Choice(("recorded", "registered")),
    help="Cameras of input/cameras.json, or found in the photos; default: as the model was trained.",
)
@click.option("--compare", metavar="FILE", help="evaluation.json of the same samples to compare with, pair by pair.")
@scored_refine_option
@click.option(*OUTPUT, metavar="DIR", help="Folder for the results; default: RUN/evaluations/NAME, or MODEL_NAME here.")
@click.option("--worst", default=4, show_default=True, type=click.IntRange(0), help="Worst samples to draw.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON instead of tables.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
def evaluate(  # noqa: PLR0913
    *,
    run_folder: str | None,
    checkpoint: str,
    model: str | None,
    exporter: str | None,
    trust: bool,
    data: str | None,
    curriculum: str | None,
    views: tuple[int, ...],
    cameras: str | None,
    compare: str | None,
    refine_steps: int | None,
    output: str | None,
    worst: int,
    as_json: bool,
    device: str,
) -> None:
    """Score a model's maps beside the baselines.

    The model is that of a run, one that ships, or a file. Only a run has samples of its own; others need --data.

    Errors of each map, normal angles, and re-renderings under lamps that no capture has: means over images, by
    material, by kind of capture, by class of material and by number of views, with intervals that tell a difference
    from chance. The worst cases are drawn.
    """
    from typing import cast

    from neuropbr_core.devices import choose_device
    from neuropbr_core.inference import load_generator
    from neuropbr_core.inference.scoring import evaluate as score
    from neuropbr_core.runs.evaluate import CameraChoice, Curriculum

    if run_folder and model:
        raise click.UsageError("give either --run DIR or --model NAME|FILE")
    if not run_folder and not data:
        raise click.UsageError("name a run with --run DIR, or samples for a model with --data DIR")
    # A recipe writes curricula as numbers or names, but click gives text for both.
    chosen: object = curriculum
    if curriculum is not None and curriculum.isdigit():
        chosen = int(curriculum)
    loaded = None
    if not run_folder:
        loaded = load_chosen(None, checkpoint, model, exporter, device, trust=trust)
    if refine_steps:
        chosen_steps(refine_steps, loaded or load_generator(str(run_folder), checkpoint), None, None)
    evaluation = score(
        run_folder,
        model=loaded,
        checkpoint=checkpoint,
        data=data,
        curriculum=cast("Curriculum | None", chosen),
        views=views,
        cameras=cast("CameraChoice | None", cameras),
        compare=compare,
        refine=refine_steps or 0,
        output=output,
        worst=worst,
        device=choose_device(device),
    )
    if as_json:
        # NaN is no JSON; the record has null in its place.
        result_json(evaluation.record.to_dict())
        return
    result(repr(evaluation))
    result(f"Results: {evaluation.folder}")
