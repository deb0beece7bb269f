"""`neuropbr export`: a model for deployment targets."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neuropbr_core.cli.completing import ExporterNames
from neuropbr_core.cli.output import command
from neuropbr_core.shipped import shipped_model

if TYPE_CHECKING:
    from neuropbr_core.registry.catalog import Chosen
    from neuropbr_core.runs.folder import RunFolder


@command()
@click.option("--run", "run_folder", metavar="DIR", help="A run's folder, or one checkpoint's folder.")
@click.option("--model", metavar="NAME", help="Instead: a model that ships with neuropbr (neuropbr list-models).")
@click.option("--checkpoint", default="best", show_default=True, help="Of a run: best, latest or a checkpoint's name.")
@click.option(
    "--to",
    "targets",
    required=True,
    metavar="NAME[,NAME…]",
    type=ExporterNames(),
    help="Exporters, or entries of the run's export.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="[NAME.]KEY=VALUE",
    help="An option of one exporter, or of all that are named. Repeatable.",
)
@click.option("--resolution", metavar="N", help="Side of the input in pixels; short for --option resolution=N.")
@click.option("--input", "input_folder", metavar="DIR", help="Views to verify on; default: a rendered capture.")
@click.option("--cameras", metavar="FILE", help="Cameras of these views, as for `neuropbr infer`.")
@click.option("--output", "out", metavar="DIR", help="Folder for the files; default: exports/ in the run's folder.")
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
    out: str | None,
) -> None:
    """Export a model for deployment targets.

    The model is that of a run, or one that ships with neuropbr. Each file is loaded back and compared with the model on
    real views; one that differs is not kept. NAME.verify.json beside a file records its exporter, options, origin and
    comparison. `neuropbr list-plugins --kind exporter --check` lists the targets, `neuropbr plugin show exporter/NAME`
    their options.
    """
    from neuropbr_core.exporting import Signature
    from neuropbr_core.inference.verification import real_views
    from neuropbr_core.model.weights import read_spec
    from neuropbr_core.runs.export import Export
    from neuropbr_core.runs.folder import RunFolder
    from neuropbr_core.runs.stage import Context
    from neuropbr_core.training.checkpoints.store import find_checkpoint

    if (run_folder is None) == (model is None):
        raise click.UsageError("give either --run DIR or --model NAME")
    if run_folder:
        source = Path(run_folder)
    else:
        source = shipped_model(str(model)).folder
    run = RunFolder.around(source)
    if out is None and run is None:
        raise click.UsageError(f"{source} is in no run's folder; say where the files shall be with --output DIR")
    folder = Path(out) if out else run.exports  # type: ignore[union-attr]
    # Each option as `[NAME.]KEY=VALUE`, with the words of the user, which an error repeats.
    words = []
    for text in options:
        words.append((text, f"--option {text}"))
    if resolution is not None:
        words.append((f"resolution={resolution}", f"--resolution {resolution}"))
    entries = _entries(run, targets.split(","), words)
    place = find_checkpoint(source, checkpoint)
    # From the description alone: weights are loaded by the stage, once, and only when the entries are in order.
    signature = Signature.of(read_spec(place))
    stage = Export(place, run, entries, folder, views=lambda: real_views(input_folder, cameras, signature).prepare)
    stage.export_all(Context())


def _entries(run: "RunFolder | None", names: Sequence[str], words: Sequence[tuple[str, str]]) -> "dict[str, Chosen]":
    """The entries of `export` that the command line asks for, checked like a recipe's."""
    from neuropbr_core.kinds import KINDS
    from neuropbr_core.recipe import load_entries
    from neuropbr_core.recipe.merge import Override

    names = [name.strip() for name in names]  # `--to "onnx, coreml"`
    overrides = []
    for text, argument in words:
        key = text.partition("=")[0]
        entry = key.partition(".")[0].strip()
        # An option's own key may have a dot, so the first part counts as a name only when --to has it.
        if "." in key and entry in names:
            overrides.append(Override(f"export.{text}", argument))
            continue
        for name in names:  # an option without a name is one of each exporter
            overrides.append(Override(f"export.{name}.{text}", argument))
    named = {name: f"--to {name}" for name in names}
    # The run's recipe supplies entries of that name; a bare checkpoint has none, and exporters get their defaults.
    base = None
    if run:
        base = run.recipe_file
    return load_entries(KINDS["exporter"], named, overrides, base=base)
