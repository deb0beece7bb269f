"""`neuropbr bench`: models and maps of other tools, scored by one protocol on data that ships."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from neuropbr_core.cli.chosen_model import load_chosen, model_options
from neuropbr_core.cli.output import OUTPUT, command, result, result_json
from neuropbr_core.cli.refining import chosen_steps, scored_refine_option
from neuropbr_core.errors import DataError
from neuropbr_core.reporting import reporter

if TYPE_CHECKING:
    from neuropbr_core.evaluation.perceptual import Lpips

FILE = click.Path(path_type=Path, dir_okay=False)


@command("bench", short_help="Score models and maps of other tools by one protocol.")
@model_options
@scored_refine_option
@click.option(
    "--maps",
    "folders",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Score another tool's maps of the captures, DIR/CAPTURE/…; may be repeated.",
)
@click.option(
    "--photos",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write the photos of the captures for other tools, and score nothing.",
)
@click.option(
    "--lpips-weights",
    "weights",
    metavar="FILE",
    type=FILE,
    help="Weights of torchvision's AlexNet, for LPIPS. [default: those in the cache of PyTorch's hub, if any]",
)
@click.option(*OUTPUT, "output", metavar="FILE", type=FILE, help="Write the result as JSON, too.")
@click.option("--overwrite", is_flag=True, help="Let --output replace a file that is no result of the bench.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON instead of tables.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
def bench(  # noqa: PLR0913 - one parameter an option
    *,
    run_folder: str | None,
    checkpoint: str,
    model: str | None,
    exporter: str | None,
    trust: bool,
    refine_steps: int | None,
    folders: tuple[Path, ...],
    photos: Path | None,
    weights: Path | None,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    device: str,
) -> None:
    """Score models and maps of other tools by one protocol, on captures of the materials that ship.

    Without options, the shipped model is scored. With --maps, the maps of other tools are, and a model beside them when
    it is named. --photos writes what other tools need. Errors are means over materials that no model is known to have
    trained on, beside the baselines. Results can be compared when their protocol digits and these materials are the
    same.

    The captures are rendered by the first call, which takes about a minute, and kept among the user's data.
    """
    from neuropbr_core.bench.entries import check_folder, entry_name, entry_of_maps, entry_of_model
    from neuropbr_core.bench.protocol import prepare_captures, write_photos
    from neuropbr_core.bench.scores import check_names, describe, score
    from neuropbr_core.files import json_text, write_text
    from neuropbr_core.ownership import refuse_foreign, remember_written

    # Not by their values: an option that has its usual value was given all the same.
    context = click.get_current_context()
    given = []
    for parameter in context.command.params:
        if context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE:
            given.append(parameter.name)
    named = run_folder or model
    mistakes = (
        (run_folder and model, "give either --run DIR or --model NAME|FILE"),
        (photos and len(given) > 1, "--photos scores nothing; give it alone"),
        (folders and refine_steps and not named, "--refine is for a model; name one, or leave it out"),
    )
    for is_made, message in mistakes:
        if is_made:
            raise click.UsageError(message)
    if photos:
        written = write_photos(prepare_captures(), photos)
        result(f"wrote {written}; {written / 'README.txt'} says how its photos become maps that can be scored")
        return
    if output is not None:
        refuse_foreign(output.parent, [output.name], overwrite=overwrite)
    # What can be wrong is found before captures are rendered and models predict.
    names = []
    for folder in folders:
        check_folder(folder)
        names.append(folder.resolve().name)
    check_names(names)
    lpips = _lpips(weights)
    loaded = None
    if named or not folders:
        loaded = load_chosen(run_folder, checkpoint, model, exporter, device, trust=trust)
        if refine_steps:
            chosen_steps(refine_steps, loaded, None, None)
        check_names([entry_name(loaded, refine_steps or 0), *names])
    captures = prepare_captures()
    entries = [entry_of_maps(folder, captures) for folder in folders]
    if loaded is not None:
        entries.insert(0, entry_of_model(loaded, captures, refine_steps or 0))
    outcome = score(entries, captures, lpips)
    if output:
        write_text(output, json_text(outcome.to_dict()))
        remember_written(output.parent, [output])
    if as_json:
        result_json(outcome.to_dict())
        return
    result(describe(outcome))
    if output:
        result(f"Results: {output}")


def _lpips(weights: Path | None) -> "Lpips | None":
    """LPIPS with the weights that the user names, or with those that PyTorch's hub has; None where there are none."""
    from neuropbr_core.evaluation.perceptual import load_lpips, usual_place

    if weights is not None:
        return load_lpips(weights)
    place = usual_place()
    if place is None:
        return None
    try:
        return load_lpips(place)
    except DataError as error:  # a file that the user has not named must not stop the bench
        reporter().warning(f"{error}; LPIPS is left out")
        return None
