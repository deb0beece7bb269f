"""`neuropbr infer`: views in, maps out."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from neuropbr_core.cli.chosen_model import load_chosen, model_options
from neuropbr_core.cli.output import OUTPUT, command, result
from neuropbr_core.cli.package import chosen_targets, target_options, write_targets
from neuropbr_core.cli.refining import chosen_steps, refine_option
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.ownership import lies_in, refuse_foreign, remembering, remove_earlier
from neuropbr_core.reporting import doing, reporter

if TYPE_CHECKING:
    from torch import Tensor

    from neuropbr_core.contracts import Maps
    from neuropbr_core.inference import Effort, ExportedGenerator, LoadedGenerator, Predicted, ViewSet

DOUBTFUL = 0.5
"""Confidence below which texels are counted as doubtful."""
MOST_VIEWS = 64
"""Most views that a recipe may ask for, and so an upper bound of those that an earlier call wrote."""


def _region(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[int, int, int, int] | Literal["auto"] | None:
    if text is None:
        return None
    if text == "auto":
        return "auto"
    match = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", text.replace(" ", ""))
    if match is None or int(match[3]) == 0 or int(match[4]) == 0:
        raise click.BadParameter(
            f"{text!r} is no region; give LEFT,TOP,WIDTH,HEIGHT in pixels of the first photo, such as "
            "40,800,200,150, or auto"
        )
    return int(match[1]), int(match[2]), int(match[3]), int(match[4])


@command()
@click.argument("photos", required=False, metavar="[PHOTOS]")
@model_options
@click.option("--input", "input_folder", metavar="DIR", help="The same as PHOTOS.")
@click.option(
    "--sample-idx",
    type=click.IntRange(0),
    metavar="N",
    help="Instead: sample N of the dataset of the run's recipe; 0 where neither is given.",
)
@click.option(*OUTPUT, metavar="DIR", help="Folder for the maps and views/.  [default: PHOTOS_maps, here]")
@click.option("--overwrite", is_flag=True, help="Replace files in that folder that neuropbr did not write.")
@click.option("--cameras", metavar="FILE", help="Cameras of the views; default: cameras.json, else from the photos.")
@click.option(
    "--ensemble",
    is_flag=True,
    help="Average predictions from several sides, four to nine times as slow; also write confidence.png.",
)
@click.option(
    "--resolution",
    type=click.IntRange(32, 16384),
    metavar="N",
    help="Side of the network's input in pixels, tile by tile where needed. [default: the model's]",
)
@click.option("--max-memory", type=click.FloatRange(0, min_open=True), metavar="GIB", help="For --resolution.")
@refine_option
@click.option(
    "--white",
    callback=_region,
    metavar="REGION",
    help="White paper in the first photo: LEFT,TOP,WIDTH,HEIGHT in its pixels, or auto. It tells exposure and colour.",
)
@click.option(
    "--reflectance",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Of what --white names: 0.18 for a grey card.  [default: 0.85, paper]",
)
@click.option("--size", type=click.IntRange(1, 16384), metavar="N", help="Resample the maps to N×N by Lanczos.")
@click.option("--strict", is_flag=True, help="Refuse photos that make the maps doubtful, instead of warning.")
@target_options(required=False)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps; for a run.")
def infer(  # noqa: PLR0913, PLR0915 - one parameter an option, one step after the other
    *,
    photos: str | None,
    run_folder: str | None,
    checkpoint: str,
    model: str | None,
    exporter: str | None,
    trust: bool,
    input_folder: str | None,
    sample_idx: int | None,
    output: str | None,
    overwrite: bool,
    cameras: str | None,
    ensemble: bool,
    resolution: int | None,
    max_memory: float | None,
    refine_steps: int | None,
    white: tuple[int, int, int, int] | Literal["auto"] | None,
    reflectance: float | None,
    size: int | None,
    strict: bool,
    targets: str | None,
    options: tuple[str, ...],
    tileable: bool,
    name: str | None,
    device: str,
) -> None:
    """Predict the PBR maps of photos or renders.

    PHOTOS is a folder with views of one material. Beside the maps, the views are written as the model saw them: resized
    or aligned, not normalised.

    The model is one that ships with neuropbr, that of a run, or an exported file. One that was trained on aligned views
    needs to know where each view was taken from. Without cameras, the photos are registered to the first, by name,
    which is taken from straight above; photos that cannot be registered are left out.

    A warning tells when there are fewer photos than the model was trained with, no flash where it was trained with one,
    photos that were left out, or exposures that are far off.

    The maps of a model that ships are then fitted to the photos, which needs photos with a flash: exposure, light,
    albedo, roughness and metallic of each substance, and one scale of the relief. Ctrl-C ends the fit and keeps the
    best so far. confidence.png is written too. --refine does so with any model that was trained on aligned views;
    --refine 0 leaves the maps as predicted.

    With --white, a sheet of white paper or a grey card in the first photo tells how bright the light was, which photos
    cannot tell by themselves.

    With --resolution, maps have the detail of large photos: the network sees them tile by tile, within --max-memory.
    With --for, packages for other programs are written beside the maps, as by `neuropbr package`.
    """
    from neuropbr_core.inference import (
        Effort,
        LoadedGenerator,
        find_doubts,
        missing_side,
        resample_confidence,
    )
    from neuropbr_core.outputs import Material, check_places, material_name

    given = photos or input_folder
    # Of options that exclude each other, or need each other.
    mistakes = (
        (run_folder and model, "give either --run DIR or --model NAME|FILE"),
        (photos and input_folder, "give the folder of the photos once: PHOTOS, or --input DIR"),
        (given and sample_idx is not None, "give either PHOTOS or --sample-idx N"),
        (
            not given and not run_folder,
            "name the folder of the photos; only a run knows a dataset to take samples from",
        ),
        (cameras and not given, "--cameras belongs to the photos of a folder; name it"),
        (reflectance and not white, "--reflectance is that of what --white names; give both"),
        (max_memory and not resolution, "--max-memory limits the tiles of --resolution N; give both"),
        (ensemble and resolution, "give either --ensemble or --resolution N: tiles are predicted from one side"),
        (ensemble and tileable, "give either --ensemble or --tileable: the confidence map is not cut with the others"),
    )
    for is_made, message in mistakes:
        if is_made:
            raise click.UsageError(message)
    folder = Path(output or f"{Path(given or 'sample').resolve().name}_maps")
    # Maps beside the photos would be taken for photos by the next call.
    if given and lies_in(folder, Path(given)) and lies_in(Path(given), folder):
        raise DataError(f"{folder}: holds the photos; choose another --output, such as {folder / 'maps'}")
    refuse_foreign(folder, [spec.file_name for spec in MAPS.values()], overwrite=overwrite)
    packages = chosen_targets(targets, options)
    check_places(packages, folder, overwrite=overwrite)
    # The model before the views: whether photos have to be registered depends on it.
    with doing("loading the model"):
        loaded = load_chosen(run_folder, checkpoint, model, exporter, device, trust=trust)
    if resolution and not isinstance(loaded, LoadedGenerator):
        raise click.UsageError("an exported file has one size; --resolution needs --run, or a model that ships")
    limit = None
    if max_memory:
        limit = int(max_memory * 2**30)
    effort = Effort(ensemble, resolution, limit, chosen_steps(refine_steps, loaded, resolution, limit))
    # The map of confidence is not cut with the others.
    tells_confidence = (effort.ensemble or effort.refine > 0) and not tileable
    if tells_confidence:
        refuse_foreign(folder, ["confidence.png"], overwrite=overwrite)
    # Photos are shrunk while they are read, to no more than the network sees of them.
    photo_size = loaded.signature.photo_size
    if resolution:
        photo_size = photo_size * resolution // loaded.signature.image_size
    register = loaded.needs_cameras
    with doing("reading the photos"):
        views, material_of = _views(given, cameras, run_folder, sample_idx or 0, register=register, size=photo_size)
        views = _calibrated(views, white, reflectance)
    result(f"model {loaded.origin}")
    # In two steps, because the prepared views are written too.
    inputs = loaded.prepare(views)
    views_shown = inputs["views"][0]
    refuse_foreign(folder, [f"views/{index}.png" for index in range(len(views_shown))], overwrite=overwrite)
    _tell_doubts(views.refusals, find_doubts(views, inputs, loaded.signature), strict=strict)
    predicted = _predict(loaded, views, inputs, effort)
    confidence = predicted.confidence
    if not tells_confidence:
        confidence = None
    # One photo lacks all sides alike, and more than five photos tell little more.
    if "directions" in inputs and 1 < inputs["views"].shape[1] < 5:
        result(f"another photo would tell most from the {missing_side(inputs['directions'])}")
    made_by = {"model": str(loaded.origin), **loaded.provenance, **predicted.provenance, "views": str(views.folder)}
    material = Material(material_name(name or material_of), predicted.maps, made_by)
    if tileable:
        material = material.tileable()
    if size:
        material = material.resized(size)
        if confidence is not None:
            confidence = resample_confidence(confidence, size)
    written = _write(folder, material.maps, confidence, views_shown)
    for path in written:
        result(f"wrote {path}")
    if packages or tileable:
        write_targets(material, packages, folder, overwrite=overwrite)


def _write(folder: Path, maps: "Maps", confidence: "Tensor | None", views: "Tensor") -> list[Path]:
    """Write maps, confidence and views; remove what an earlier call wrote beside other maps."""
    from neuropbr_core.inference import write_confidence, write_maps, write_views

    # What an earlier call wrote beside other maps would look like a part of these.
    stale = [f"views/{index}.png" for index in range(len(views), MOST_VIEWS)]
    if confidence is None:
        stale.append("confidence.png")
    remove_earlier(folder, stale)
    names = [spec.file_name for spec in MAPS.values()]
    names += [f"views/{index}.png" for index in range(len(views))]
    if confidence is not None:
        names.append("confidence.png")
    # Noted however it ends: what an interrupted call wrote is replaced by the next one without being asked.
    with remembering(folder, [folder / name for name in names]):
        written = write_maps(maps, folder)
        if confidence is not None:
            written.append(write_confidence(confidence, folder))
        # The views show at once whether alignment failed, which wrong maps do not.
        written += write_views(views, folder / "views")
    return written


def _views(
    input_folder: str | None,
    cameras: str | None,
    run_folder: str | None,
    index: int,
    *,
    register: bool,
    size: int,
) -> "tuple[ViewSet, str]":
    """Read the photos of a folder or a sample of a run's dataset; return them with the name of their material."""
    from neuropbr_core.inference import read_capture, read_sample

    if input_folder:
        views = read_capture(input_folder, cameras, register=register, size=size)
        result(f"{len(views.paths)} views of {input_folder}")
        return views, Path(input_folder).resolve().name
    # Neither a folder nor a sample was named: the first sample shows what the model can do.
    sample = read_sample(str(run_folder), index)
    # Maps of a material that the model was trained on say little about others.
    side = "trained on"
    if sample.held_back:
        side = "held back"
    result(f"{sample.id}: {len(sample.views.paths)} views of {sample.material}, {side}")
    return sample.views, sample.material


def _calibrated(
    views: "ViewSet", white: tuple[int, int, int, int] | Literal["auto"] | None, reflectance: float | None
) -> "ViewSet":
    """The views, exposed by the white reference where one is named."""
    if white is None:
        return views
    from neuropbr_core.inference import WhiteReference, calibrate

    if reflectance is None:
        return calibrate(views, WhiteReference(white))
    return calibrate(views, WhiteReference(white, reflectance))


def _tell_doubts(refusals: Sequence[str], doubts: Sequence[str], *, strict: bool) -> None:
    """Warn of photos that make the maps doubtful, or refuse them; refusals have been told when they were found.

    Raises:
        DataError: There are any, and `strict` is set.
    """
    if strict and (doubts or refusals):
        raise DataError("\n".join((*refusals, *doubts, "--strict refuses these photos; no maps were written")))
    for doubt in doubts:
        reporter().warning(doubt)


def _predict(
    model: "LoadedGenerator | ExportedGenerator", views: "ViewSet", inputs: "dict[str, Tensor]", effort: "Effort"
) -> "Predicted":
    """Predict and refine the maps; print how well they explain the photos, how sure and how sharp they are."""
    from neuropbr_core.inference import predict_maps

    with doing("predicting the maps"):
        predicted = predict_maps(model, views, inputs, effort)
    if predicted.tile:
        result(f"{predicted.tiles} tiles of {predicted.tile} pixels")
    refinement = predicted.refinement
    if refinement is not None:
        result(
            f"refined in {refinement.steps} steps: error of the photos {refinement.error_before:.3f}, "
            f"now {refinement.error_after:.3f}"
        )
        if len(refinement.light.gains) > 1:  # one photo cannot tell relief from colour
            result(f"relief scaled by {refinement.relief:.2f}")
    confidence = predicted.confidence
    if confidence is not None:
        doubtful = float((confidence < DOUBTFUL).float().mean())
        result(
            f"confidence {float(confidence.mean()):.2f} on average; below {DOUBTFUL} on {doubtful:.0%} of the texels"
        )
    result(f"sharpness {predicted.sharpness:.2f}: fine detail of the albedo as a share of the photos'")
    return predicted
