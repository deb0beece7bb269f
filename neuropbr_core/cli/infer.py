"""`neuropbr infer`: views in, maps out."""

from pathlib import Path

import click

from neuropbr_core.cli.output import command, result


@command()
@click.option("--run", "run_folder", metavar="DIR", help="A run's folder, or one checkpoint's folder.")
@click.option("--checkpoint", default="best", show_default=True, help="Of a run: best, latest or a checkpoint's name.")
@click.option("--model", "model_file", metavar="FILE", help="An exported file, instead of a run.")
@click.option("--exporter", metavar="NAME", help="The file's exporter, where its record and its suffix do not tell.")
@click.option("--input", "input_folder", metavar="DIR", help="Folder with the views of one material.")
@click.option(
    "--sample-idx",
    type=click.IntRange(0),
    metavar="N",
    help="Instead: sample N of the dataset of the run's recipe; 0 where neither is given.",
)
@click.option("--output", "output_folder", required=True, metavar="DIR", help="Folder for the maps and views/.")
@click.option("--cameras", metavar="FILE", help="Cameras of the views; default: cameras.json, else from the photos.")
@click.option("--size", type=click.IntRange(1, 16384), metavar="N", help="Resample the maps to N×N by Lanczos.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps; for a run.")
def infer(  # noqa: PLR0913 - one parameter an option
    *,
    run_folder: str | None,
    checkpoint: str,
    model_file: str | None,
    exporter: str | None,
    input_folder: str | None,
    sample_idx: int | None,
    output_folder: str,
    cameras: str | None,
    size: int | None,
    device: str,
) -> None:
    """Predict the PBR maps of a folder of photos or renders.

    Beside the maps, the views are written as the model saw them: resized or aligned, not normalised.

    The model is that of a run, or an exported file, which needs no run. One that was trained on aligned views needs to
    know where each view was taken from. Without cameras, the photos are registered to the first, by name, which is
    taken from straight above.
    """
    from neuropbr_core.devices import choose_device
    from neuropbr_core.inference import (
        ExportedGenerator,
        LoadedGenerator,
        load_exported,
        load_generator,
        read_capture,
        read_sample,
        resample_maps,
        write_maps,
        write_views,
    )

    if (run_folder is None) == (model_file is None):
        raise click.UsageError("give either --run DIR or --model FILE")
    if input_folder and sample_idx is not None:
        raise click.UsageError("give either --input DIR or --sample-idx N")
    if model_file and not input_folder:
        raise click.UsageError("an exported file knows no dataset; give --input DIR")
    # The model before the views: whether photos have to be registered depends on it.
    model: LoadedGenerator | ExportedGenerator
    if run_folder:
        model = load_generator(run_folder, checkpoint).to(choose_device(device))
        origin = model.checkpoint
    else:
        model = load_exported(str(model_file), exporter)
        origin = model.opened.path
    if input_folder:
        views = read_capture(input_folder, cameras, register=model.needs_cameras)
        result(f"{len(views.paths)} views of {input_folder}")
    else:
        # Neither a folder nor a sample was named: the first sample shows what the model can do.
        sample = read_sample(str(run_folder), sample_idx or 0)
        views = sample.views
        # Maps of a material that the model was trained on say little about others.
        side = "trained on"
        if sample.held_back:
            side = "held back"
        result(f"{sample.id}: {len(views.paths)} views of {sample.material}, {side}")
    result(f"model {origin}")
    # In two steps, because the prepared views are written too.
    inputs = model.prepare(views)
    maps = model.apply(inputs)
    if size:
        maps = resample_maps(maps, size)
    written = write_maps(maps, Path(output_folder))
    # The views show at once whether alignment failed, which wrong maps do not.
    written += write_views(inputs["views"][0], Path(output_folder) / "views")
    for path in written:
        result(f"wrote {path}")
