"""`neuropbr infer`: views in, maps out."""

from pathlib import Path

import click


@click.command()
@click.option("--run", "run_folder", required=True, metavar="DIR", help="A run's folder, or one checkpoint's folder.")
@click.option("--checkpoint", default="best", show_default=True, help="Of a run: best, latest or a checkpoint's name.")
@click.option("--input", "input_folder", required=True, metavar="DIR", help="Folder with the views of one material.")
@click.option("--output", "output_folder", required=True, metavar="DIR", help="Folder for the maps.")
@click.option("--cameras", metavar="FILE", help="Cameras of the views; default: cameras.json, else from the photos.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
def infer(
    run_folder: str, checkpoint: str, input_folder: str, output_folder: str, cameras: str | None, device: str
) -> None:
    """Predict the PBR maps of a folder of photos or renders.

    A model that was trained on aligned views needs to know where each view was taken from. Without cameras, the photos
    are registered to the first, by name, which is taken from straight above.
    """
    from neuropbr_core.devices import choose_device
    from neuropbr_core.inference import load_generator, read_views, register_views, write_maps

    views = read_views(Path(input_folder), Path(cameras) if cameras else None)
    loaded = load_generator(run_folder, checkpoint).to(choose_device(device))
    click.echo(f"{len(views.paths)} views of {input_folder}, model {loaded.checkpoint}")
    if loaded.needs_cameras and views.homographies is None:
        click.echo(f"no cameras found: registering the photos to {views.paths[0].name}")
        views = register_views(views)
        for path, share in zip(views.paths, views.confidence or (), strict=True):
            click.echo(f"  {path.name}: confidence {share:.2f}")
    for path in write_maps(loaded.predict(views), Path(output_folder)):
        click.echo(f"wrote {path}")
