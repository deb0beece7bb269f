"""Scores any model on samples with known maps: a run's, one that ships, or a file; as predicted, or refined."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from neuropbr_core.contracts import Maps
from neuropbr_core.data.batches.prepare import Inputs, Prepared
from neuropbr_core.data.opening import open_samples
from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.heldout import Predict
from neuropbr_core.evaluation.summary import check_place, load_record
from neuropbr_core.exporting.inputs import Signature, named_inputs
from neuropbr_core.inference.effort import is_without_flash, with_closed_borders
from neuropbr_core.inference.ensemble import mean_of_turns, turned_inputs, turned_vectors
from neuropbr_core.inference.flash import without_flash
from neuropbr_core.inference.predict import ExportedGenerator, LoadedGenerator, load_generator
from neuropbr_core.inference.refine import refine
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.recipe.sections import Data
from neuropbr_core.reporting import SilentReporter, reporting_to
from neuropbr_core.runs.evaluate import (
    HELD_BACK,
    CameraChoice,
    Curriculum,
    Evaluate,
    Evaluation,
    Refine,
    Scored,
    require_dataset,
)
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.stage import Context
from neuropbr_core.runs.trained_on import trained_on
from neuropbr_core.training.checkpoints.store import BEST

Model = LoadedGenerator | ExportedGenerator


def predict_with(model: Model, *, finished: bool = True) -> Predict:
    """Predict the maps of prepared samples with any model; their sizes are those of its signature.

    Args:
        model: The model.
        finished: Whether the maps are those that `predict_maps` gives for photos that somebody brings: cautious without
            a flash, and with borders that meet. Without it, they are the network's; `refine_frames` finishes them.
    """

    def predict(prepared: Prepared) -> Maps:
        maps: dict[str, list[torch.Tensor]] = {}
        # An exported file takes one sample at a time.
        for index in range(len(prepared.ids)):
            inputs = _inputs_of(prepared, index, model.signature)
            predicted = {name: value.float() for name, value in model.apply(inputs).items()}
            if finished:
                cameras = None
                if prepared.positions is not None:
                    cameras = prepared.positions[index]
                if is_without_flash(model.signature, inputs, cameras):
                    predicted = without_flash(predicted, inputs["views"], inputs["visible"])
                predicted = with_closed_borders(predicted)
            for name, value in predicted.items():
                maps.setdefault(name, []).append(value.to(prepared.views.device))
        return {name: torch.cat(values) for name, values in maps.items()}

    return predict


def refine_frames(steps: int, signature: Signature) -> Refine | None:
    """How maps of prepared samples with cameras are predicted and fitted to the photos; None for no steps.

    Args:
        steps: Steps of the fit.
        signature: Of the model, which tells what it is given and whether it knows photos with a flash alone.
    """
    if not steps:
        return None

    unfitted: set[tuple[str, int]] = set()

    def fit(prepared: Prepared, predict: Predict) -> Maps:
        positions = prepared.positions
        if positions is None:
            raise DataError(
                f"{prepared.ids[0]}: has no cameras, which refinement needs; leave out --refine, or score a model that "
                "was trained on aligned views"
            )
        # As `predict_maps` does for photos that somebody brings.
        if "directions" in signature.inputs:
            maps = mean_of_turns(lambda quarters: predict(_turned(prepared, positions, quarters)))
        else:
            maps = predict(prepared)
        finished: dict[str, list[torch.Tensor]] = {}
        for index, cameras in enumerate(positions):
            of_sample = {name: value[index : index + 1] for name, value in maps.items()}
            inputs = _inputs_of(prepared, index, signature)
            if is_without_flash(signature, inputs, cameras):
                of_sample = without_flash(of_sample, inputs["views"], inputs["visible"])
                unfitted.add((prepared.ids[index], len(cameras)))
            else:
                photos = prepared.views[index]
                # Scores need no gradients, and the fit does. Its lines would come once for each sample.
                with torch.enable_grad(), reporting_to(SilentReporter()):
                    result = refine(of_sample, photos, cameras, prepared.visible[index], steps=steps)
                if result.interrupted:
                    # Ctrl-C ends the scoring: maps that are half fitted have no scores of their own.
                    raise KeyboardInterrupt
                if not result.steps:
                    unfitted.add((prepared.ids[index], len(photos)))
                of_sample = result.maps
            for name, value in with_closed_borders(of_sample).items():
                finished.setdefault(name, []).append(value.to(prepared.views.device))
        return {name: torch.cat(values) for name, values in finished.items()}

    return Refine(steps, fit, unfitted)


def _inputs_of(prepared: Prepared, index: int, signature: Signature) -> dict[str, torch.Tensor]:
    """What a model is given of one sample."""
    own = slice(index, index + 1)
    directions = prepared.directions
    if directions is not None:
        directions = directions[own]
    return named_inputs(Inputs(prepared.views[own], prepared.visible[own], directions), signature)


def _turned(prepared: Prepared, positions: torch.Tensor, quarters: int) -> Prepared:
    """Samples whose materials are turned in front of their cameras, for `mean_of_turns`."""
    inputs = {"views": prepared.views, "visible": prepared.visible}
    if prepared.directions is not None:
        inputs["directions"] = prepared.directions
    turned = turned_inputs(inputs, quarters)
    return replace(
        prepared,
        views=turned["views"],
        visible=turned["visible"],
        directions=turned.get("directions"),
        positions=turned_vectors(positions, quarters, dim=-1),
    )


def data_of(signature: Signature, folder: Path) -> Data:
    """The section `data` with which a dataset's samples are prepared for a model, all of them whole.

    Args:
        signature: The model's sizes and views.
        folder: The dataset.
    """
    return Data(
        root=str(folder),
        views=signature.views,
        image_size=signature.image_size,
        view_size=signature.photo_size,
        output_size=signature.output_size,
        alignment="recorded" if signature.aligned else "none",
        val_ratio=0.0,
    )


def evaluate(  # noqa: PLR0913
    run: str | Path | None = None,
    *,
    model: str | Path | Model | None = None,
    checkpoint: str = BEST,
    data: str | Path | None = None,
    curriculum: Curriculum | None = None,
    views: Sequence[int] = (),
    cameras: CameraChoice | None = None,
    compare: str | Path | None = None,
    refine: int = 0,
    output: str | Path | None = None,
    worst: int = 4,
    device: torch.device | None = None,
) -> Evaluation:
    """Score a model on whole frames and write the results into a folder.

    Args:
        run: A run's folder; give this or `model`.
        model: Instead of a run: what `load_generator` takes, such as `neuropbr:flash-3`, or a model that is loaded. It
            needs `data`, too.
        checkpoint: Of a run: `best`, `latest` or a checkpoint's name.
        data: A dataset folder with `input/` and `output/`, all of whose samples are scored; default: the samples of
            the materials that the run held back.
        curriculum: `data.render_curriculum` of what is scored; default: the run's, or clean samples.
        views: Numbers of views to score with, from the first view on; default: as the model was trained.
        cameras: Which cameras align the photos; default: as the run was trained, or recorded ones.
        compare: `evaluation.json` of another evaluation of the same samples to compare with.
        refine: Steps in which the maps are fitted to the photos before they are scored; 0 for maps as predicted.
        output: Where to write; default `RUN/evaluations/NAME`, or `MODEL_NAME` here; NAME is `held-back` or the
            dataset's name, with `-refined` behind it for refined maps. What an earlier evaluation left there is
            replaced when the new one is complete.
        worst: How many of the worst samples, by re-rendering error, are drawn.
        device: Where to compute; default: the CPU, or the device of a model that is loaded.

    Raises:
        RunError: The folder is no run, or the results would replace something else than an evaluation.
        CheckpointError: There is no such checkpoint, or it is damaged.
        DataError: The dataset cannot be used, nothing was held back, the model has no cameras to refine with, or the
            evaluation to compare with is of other samples.
        OSError: The results could not be written.
    """
    if (run is None) == (model is None):
        raise DataError("evaluate: give either run or model")
    name = HELD_BACK
    if data is not None:
        name = Path(data).resolve().name  # `.` and `..` have no name of their own
    if refine:
        name += "-refined"
    compared = None
    if compare is not None:
        compared = Path(compare)
    if run is not None:
        folder = RunFolder(Path(run))
        data_folder = None
        if data is not None:
            data_folder = Path(data)
        recipe = folder.recipe()
        stage = Evaluate(
            folder,
            recipe,
            device=device or torch.device("cpu"),
            checkpoint=checkpoint,
            data=data_folder,
            curriculum=curriculum,
            views=tuple(views),
            cameras=cameras,
            compare=compared,
            output=Path(output or folder.path / "evaluations" / name),
            worst=worst,
            refine=refine_frames(refine, Signature.of(ModelSpec.from_recipe(recipe))),
        )
        stage.execute(Context())
        return cast("Evaluation", stage.evaluation)
    if data is None:
        raise DataError("a model that is in no run has no samples of its own; name a dataset with --data DIR")
    require_dataset(Path(data))
    if isinstance(model, str | Path):
        model = load_generator(model).to(device or "cpu")
    model = cast("Model", model)
    place = Path(output or f"{model_name(model)}_{name}")
    check_place(place)
    # Read before the long part, so that a wrong path fails at once; its samples are compared at the end.
    if compared is not None:
        load_record(compared)
    section = data_of(model.signature, Path(data))
    if isinstance(model, ExportedGenerator) and views and set(views) != {section.views}:
        raise DataError(f"{model.origin}: takes {section.views} views; leave out --views")
    if views:
        section = replace(section, views=max(views))
    if curriculum is not None:
        section = replace(section, render_curriculum=curriculum)
    if cameras is not None and not section.aligned:
        raise DataError(
            f"{model.origin}: was trained on photos without cameras, so it makes no difference where cameras come "
            "from; leave out --cameras"
        )
    # Photos are registered when the samples are known, so that one that is refused does not stop all.
    if cameras == "registered":
        section = replace(section, alignment="none")
    samples, digests = open_samples(section)
    weights = model.provenance.get("weights", "")
    fit = refine_frames(refine, model.signature)
    scored = Scored(predict_with(model, finished=not refine), samples, digests, weights, {}, fit)
    in_order = tuple(sorted(views, key=lambda count: (count != model.signature.views, count)))
    computing = torch.device("cpu")
    if isinstance(model, LoadedGenerator):
        computing = model.device
    return scored.publish(
        place,
        computing,
        views=in_order,
        register=cameras == "registered",
        compare=compared,
        worst=worst,
        trained=trained_on(model.origin),
    )


def model_name(model: Model) -> str:
    """Short name of a model: that of its run or folder, or of its file without the suffix."""
    if run := RunFolder.around(model.origin):
        return run.name
    if model.origin.is_dir():
        return model.origin.name
    return model.origin.stem
