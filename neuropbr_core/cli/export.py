"""`neuropbr export`: a model for deployment targets."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neuropbr_core.cli.chosen_model import BEST
from neuropbr_core.cli.completing import ComponentNames
from neuropbr_core.cli.entries import named_entries, option_option, spelled
from neuropbr_core.cli.output import OUTPUT, command
from neuropbr_core.shipped import shipped_model

if TYPE_CHECKING:
    from neuropbr_core.registry.chosen import Chosen


@command()
@click.option("--run", "run_folder", metavar="DIR", help="A run's folder, or one checkpoint's folder.")
@click.option("--model", metavar="NAME", help="Instead: a model that ships with neuropbr (neuropbr list-models).")
@click.option("--checkpoint", default=BEST, show_default=True, help="Of a run: best, latest or a checkpoint's name.")
@click.option(
    "--to",
    "targets",
    required=True,
    metavar="NAME[,NAME…]",
    type=ComponentNames("exporter"),
    help="Exporters, or entries of the run's export.",
)
@option_option("exporter")
@click.option("--resolution", metavar="N", help="Side of the input in pixels; short for --option resolution=N.")
@click.option("--input", "input_folder", metavar="DIR", help="Views to verify on; default: a rendered capture.")
@click.option("--cameras", metavar="FILE", help="Cameras of these views, as for `neuropbr infer`.")
@click.option(*OUTPUT, "output", metavar="DIR", help="Folder for the files; default: exports/ in the run's folder.")
def export(  # noqa: PLR0913 - one parameter an option
    *,
    run_folder: str | None,
    model: str | None,
    checkpoint: str,
    targets: str,
    options: tuple[str, ...],
    resolution: str | None,
    input_folder: str | None,
    cameras: str | None,
    output: str | None,
) -> None:
    """Export a model for deployment targets.

    The model is that of a run, or one that ships with neuropbr. Each file is loaded back and compared with the model on
    real views; one that differs is not kept. NAME.verify.json beside a file records its exporter, options, origin and
    comparison. `neuropbr list-plugins --kind exporter --check` lists the targets, `neuropbr plugin show exporter/NAME`
    their options.
    """
    from neuropbr_core.runs.folder import RunFolder
    from neuropbr_core.workflow import export_model

    if (run_folder is None) == (model is None):
        raise click.UsageError("give either --run DIR or --model NAME")
    if model is not None and checkpoint != BEST:
        raise click.UsageError("--checkpoint belongs to --run DIR; a model that ships has one")
    if run_folder:
        source = Path(run_folder)
    else:
        source = shipped_model(str(model)).folder
    words = spelled(options)
    if resolution is not None:
        words.append((f"resolution={resolution}", f"--resolution {resolution}"))

    def entries_for(base: Path | None) -> "Mapping[str, Chosen]":
        return named_entries("exporter", "--to", targets, words, base)

    place = None
    if output is not None:
        place = Path(output)
    elif RunFolder.around(source) is None:
        raise click.UsageError(f"{source} is in no run's folder; say where the files shall be with --output DIR")
    export_model(source, entries_for, checkpoint=checkpoint, photos=input_folder, cameras=cameras, output=place)
