"""`neuropbr data align`: cameras from photos."""

from pathlib import Path

import click

from neuropbr_core.cli.output import command, result


@command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace a cameras.json that is there.")
@click.pass_context
def align(ctx: click.Context, target: Path, overwrite: bool) -> None:
    """Find out where photos were taken from, and write cameras.json.

    TARGET is a folder with the photos of one material, or a dataset, of which every sample is registered. The first
    photo of each is taken from straight above; the others are registered to it. The exit status is 1 when photos are
    refused; the cameras of all others are written.
    """
    from neuropbr_core.data.layout.paths import CAMERAS_NAME, write_cameras
    from neuropbr_core.data.registration.folders import align_dataset, align_folder, is_dataset
    from neuropbr_core.errors import DataError

    # Where the file goes differs: training reads a dataset's cameras from `input/`, and `infer` from beside the photos.
    dataset = is_dataset(target)
    file = target / CAMERAS_NAME
    if dataset:
        file = target / "input" / CAMERAS_NAME
    # Refused before anything is registered, which takes minutes for a dataset.
    if file.exists() and not overwrite:
        raise DataError(f"{file}: is there already; keep it, or replace it with --overwrite")
    if dataset:
        aligned = align_dataset(target)
    else:
        aligned = align_folder(target)
    for name, registration in aligned.registrations.items():
        shares = " ".join(f"{share:.2f}" for share in registration.confidence)
        result(f"{name}: confidence {shares}, focal length {registration.focal:.2f}")
    for problem in aligned.problems:
        result(problem)
    # Cameras of the good samples are written although others were refused: registering takes seconds a photo.
    if aligned.registrations:
        write_cameras(file, aligned.cameras)
        result(f"wrote {file}")
    ctx.exit(int(bool(aligned.problems)))
