"""Teachers of students: what a trained teacher is, and its predictions, computed in each step or stored beforehand."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Prediction
from neuropbr_core.data.batches.crops import Logits
from neuropbr_core.data.batches.loader import predict_frames
from neuropbr_core.data.batches.prepare import Prepared, predicted
from neuropbr_core.data.batches.teacher_logits import (
    SampleMark,
    TeacherMark,
    differences,
    read_logits,
    write_logits,
)
from neuropbr_core.data.opening import OpenedDataset, open_dataset
from neuropbr_core.data.splits import Split, follow_split
from neuropbr_core.errors import CheckpointError, DataError
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.model.weights import SPEC, load_model, read_spec, weights_digest
from neuropbr_core.reading import read_json
from neuropbr_core.recipe.sections import Data, Jitter, Recipe
from neuropbr_core.reporting import reporter, track
from neuropbr_core.samples import Sample
from neuropbr_core.training.fabric import first
from neuropbr_core.training.loop.networks import check_crops
from neuropbr_core.training.loop.objective import features_needed
from neuropbr_core.training.provenance import PROVENANCE, recorded_split

_WHOLE = 1 - 1e-3
"""Visibility from which a resized pixel counts as seen: below, the black outside the view has got into it."""


class OnlineTeacher:
    """A frozen generator beside the one that is trained.

    Args:
        generator: The teacher's; put into eval mode, frozen, and moved to the device.
        spec: What it was built for.
        data: Section `data` of the student's recipe.
        fabric: Device and precision.
        features: Whether its intermediate features are wanted too.

    Raises:
        RunError: It cannot predict on the student's crops.
    """

    def __init__(
        self, generator: Generator, spec: ModelSpec, data: Data, fabric: Fabric, *, features: bool = False
    ) -> None:
        check_crops(spec, generator.encoder.strides[-1], data)
        self.generator = generator.eval().requires_grad_(False).to(fabric.device)
        self._teacher_size = spec.image_size
        self._student_size = data.image_size
        self._fabric = fabric
        self._features = features

    @torch.no_grad()
    def __call__(self, prepared: Prepared) -> Prepared:
        """Return the batch with the teacher's prediction: maps at the targets' size, features as they come, float32.

        The views are resized to the share of the teacher's own input that the crop is of the student's.
        """
        side = prepared.views.shape[-1] * self._teacher_size // self._student_size
        resized = resize_views(prepared, side)
        with self._fabric.autocast():
            prediction: Prediction = self.generator(*resized.inputs, features=self._features)
        size = prepared.valid.shape[-1]
        # Logits and not maps are resized, as where they are stored: the mean of maps would blur their edges.
        logits = {name: resize(value.float(), size) for name, value in prediction.logits.items()}
        features = {name: value.float() for name, value in prediction.features.items()}
        return replace(prepared, teacher=predicted(logits)._replace(features=features))


def load_online(recipe: Recipe, checkpoint: Path, fabric: Fabric) -> OnlineTeacher:
    """Load a recipe's teacher to run beside the student.

    Args:
        recipe: The student's recipe.
        checkpoint: Folder of the teacher's weights.
        fabric: Device and precision.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    generator, spec = load_model(checkpoint)
    features = features_needed(recipe)
    return OnlineTeacher(generator, spec, recipe.data, fabric, features=features)


def resize_views(prepared: Prepared, side: int) -> Prepared:
    """The same crops with views, visibility and directions at another size.

    Args:
        prepared: The crop.
        side: The wanted side in pixels.

    Returns:
        Visibility is 1 where only what a view sees went into a pixel, else 0; directions are unit vectors.
    """
    views = prepared.views
    visible = prepared.visible
    directions = prepared.directions
    if views.shape[-1] == side:
        return prepared
    visible = (_resize_views(visible, side) > _WHOLE).to(views.dtype)
    views = _resize_views(views, side) * visible  # as in training, what a view does not see is black
    if directions is not None:
        # The mean of unit vectors is shorter than one.
        directions = F.normalize(_resize_views(directions, side), dim=2)
    return replace(prepared, views=views, visible=visible, directions=directions)


def _resize_views(values: Tensor, side: int) -> Tensor:
    """`resize` of `(B, V, C, h, w)`."""
    return resize(values.flatten(0, 1), side).view(*values.shape[:3], side, side)


def resize(values: Tensor, side: int) -> Tensor:
    """Resample images `(N, C, h, w)` to a side, averaging where it shrinks."""
    if values.shape[-2:] == (side, side):
        return values
    return F.interpolate(values, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


Alignment = Literal["none", "recorded", "estimated"]


@dataclass(frozen=True)
class TrainedTeacher:
    """A trained teacher.

    Attributes:
        checkpoint: Folder of its weights.
        home: Folder of its run; of the checkpoint where that is all there is.
        spec: What it was built from.
        trained: Materials that it trained on.
        held_back: Materials that were held back from it.
    """

    checkpoint: Path
    home: Path
    spec: ModelSpec
    trained: tuple[str, ...]
    held_back: tuple[str, ...]

    @property
    def mark(self) -> TeacherMark:
        """What tells its predictions from another teacher's.

        Raises:
            CheckpointError: A file of the checkpoint is missing or damaged.
        """
        # The weights alone do not tell: with other options, the same weights predict something else.
        document = read_json(self.checkpoint / SPEC, dict[str, Any], CheckpointError, "use another checkpoint")
        model = hashlib.sha256(json.dumps(document.get("model"), sort_keys=True).encode()).hexdigest()
        return TeacherMark(weights_digest(self.checkpoint), model)

    @property
    def record(self) -> dict[str, str]:
        """What a student's run keeps of its teacher."""
        mark = self.mark  # hashes the weights, so once
        return {"checkpoint": str(self.checkpoint), "weights": mark.weights, "model": mark.model}

    def logits_folder(self, size: int) -> Path:
        """Where its predictions of this size are stored when a recipe does not say."""
        return self.home / f"shards-{size}"

    def splitter(self, data: Data, seed: int) -> Callable[[Iterable[str]], Split]:
        """Splits a student's materials as its own were split."""
        return follow(self.trained, self.held_back, data, seed)


def follow(
    trained: Collection[str], held_back: Collection[str], data: Data, seed: int
) -> Callable[[Iterable[str]], Split]:
    """Make the function that splits a student's materials as its teacher's were split.

    Args:
        trained: Materials that the teacher trains on.
        held_back: Materials that are held back from it.
        data: Section `data` of the student's recipe.
        seed: Its seed.
    """
    return partial(
        follow_split,
        trained=trained,
        held_back=held_back,
        seed=seed,
        val_ratio=data.val_ratio,
        val_materials=data.val_materials,
        groups=data.groups,
    )


def open_teacher(checkpoint: Path) -> TrainedTeacher:
    """Read what a teacher's checkpoint and its run say of it; the weights are not loaded.

    Args:
        checkpoint: The checkpoint's folder: in its run, or with the run's `provenance.json` copied into it.

    Raises:
        DataError: Nothing says what it was trained on.
        CheckpointError: The checkpoint is damaged.
        PluginError: A component of it is not installed.
    """
    spec = read_spec(checkpoint)
    # `RUN/checkpoints/NAME`: the run is two folders up, also when the path is relative and short.
    around = checkpoint if len(checkpoint.parents) > 1 else checkpoint.resolve()
    # The checkpoint's folder first: a record that was copied into it is meant for it.
    home = checkpoint
    if not (home / PROVENANCE).is_file():
        home = around.parents[1]
    if not (home / PROVENANCE).is_file():
        raise DataError(
            f"{checkpoint}: nothing says what this teacher was trained on, so a student's validation could hold the "
            f"same materials; name a checkpoint in its run's folder, or copy the run's {PROVENANCE} into this one"
        )
    split = recorded_split(home / PROVENANCE)
    return TrainedTeacher(checkpoint, home, spec, tuple(split["train"]), tuple(split["val"]))


def teachers_data(data: Data, spec: ModelSpec) -> Data:
    """Section `data` of a recipe, changed to what a teacher is shown of the same samples: whole frames at its size."""
    return replace(
        data,
        image_size=spec.image_size,
        view_size=spec.photo_size,
        output_size=spec.output_size,
        views=spec.views,
        alignment=cast("Alignment", spec.alignment),
        # Whole frames, once each and without changes: what is stored must not depend on a draw.
        crop_size=None,
        repeats=1,
        augment=False,
        jitter=Jitter(),
    )


SHARD_SIZE = 8
"""Samples in a file."""


@dataclass(frozen=True)
class LogitsReport:
    """What predicting did, in this process.

    Attributes:
        folder: Where the predictions are.
        predicted: Samples predicted and written.
        kept: Samples that were there.
        left: Samples that other processes predict.
    """

    folder: Path
    predicted: int
    kept: int
    left: int = 0


def marks_of(dataset: OpenedDataset, samples: Sequence[Sample[Any]]) -> list[SampleMark]:
    """What a teacher is shown of samples of a dataset."""
    return [SampleMark.of(sample, dataset.view_digests[sample.id], sample.cameras) for sample in samples]


def store_logits(
    teacher: TrainedTeacher,
    recipe: Recipe,
    folder: Path,
    *,
    size: int,
    fabric: Fabric,
    shard_size: int = SHARD_SIZE,
) -> LogitsReport:
    """Predict the training samples of a recipe's data that a folder lacks; each process its share of them.

    The teacher sees whole frames at its own size, aligned and with as many views as in its training, without jitter.
    Its logits are resized to `size` and kept as float16. Samples that are held back are not predicted: no student
    reads them.

    Args:
        teacher: The teacher.
        recipe: Whose data; only `data`, its source and the seed count.
        folder: Where the predictions go.
        size: Side of the maps in pixels.
        fabric: Device, precision, and the process among several.
        shard_size: Samples in a file.

    Raises:
        DataError: What is in the folder is of another teacher, size or data, or cannot be written; or the teacher's
            prediction of a sample is not a number.
    """
    data = teachers_data(recipe.data, teacher.spec)
    opened = open_dataset(
        replace(recipe, data=data),
        choose_split=teacher.splitter(data, recipe.training.seed),
    )
    by_id = {sample.id: sample for sample in opened.train.samples}  # an epoch may repeat some
    samples = list(by_id.values())
    marks = dict(zip(by_id, marks_of(opened, samples), strict=True))
    mark = teacher.mark  # hashes the weights, so once
    stored = first(fabric, lambda: read_logits(folder))
    # Before anything is predicted: predictions of two teachers or sizes must not mix in one folder.
    lines = differences(stored, mark, size, marks.values())
    if lines:
        report = ""
        for line in lines:
            report += f"{folder}: {line}\n"
        raise DataError(f"{report}remove the folder to have it made again, or name another")
    missing = [sample for sample in samples if sample.id not in stored.samples]
    # Every second, third, … sample, so that the processes of any number of devices end at about the same time.
    share = missing[fabric.global_rank :: fabric.world_size]
    if share:
        reporter().line(
            f"Predicting {len(missing)} frames of {data.image_size} px with {teacher.checkpoint} into {folder}"
        )
        generator, _ = load_model(teacher.checkpoint)
        generator.to(fabric.device)
        frames = predict_frames(generator, opened.all.frames_of(share), fabric.device, autocast=fabric.autocast)
        pending: list[tuple[SampleMark, dict[str, Logits]]] = []
        for prepared, prediction in track(frames, len(share), "predicting"):
            name = prepared.ids[0]
            pending.append((marks[name], _halves(prediction, size, f"{teacher.checkpoint}, {name}")))
            # A file is written as soon as its samples are predicted, so an interruption loses one file at most.
            if len(pending) == shard_size:
                write_logits(folder, mark, size, pending)
                pending = []
        if pending:  # the last file may hold fewer samples
            write_logits(folder, mark, size, pending)
    return LogitsReport(folder, len(share), len(samples) - len(missing), len(missing) - len(share))


def _halves(prediction: Prediction, size: int, subject: str) -> dict[str, Logits]:
    """Logits of one frame as float16.

    Raises:
        DataError: A logit is not a number.
    """
    largest = torch.finfo(torch.float16).max
    logits = {}
    broken = []
    for name, value in prediction.logits.items():
        resized = resize(value, size)[0]
        if resized.isnan().any():
            broken.append(name)
        # Beyond the range of float16 a sigmoid is 0 or 1 anyway.
        logits[name] = resized.clamp(-largest, largest).half().cpu().numpy()
    if broken:
        raise DataError(
            f"{subject}: the teacher predicts {' and '.join(broken)} that is not a number; predict with "
            f"training.precision=fp32, or choose another checkpoint"
        )
    return logits
