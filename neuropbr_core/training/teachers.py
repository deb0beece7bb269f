"""Trained teachers of students: what is known of them, and their predictions beside each training step."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Prediction
from neuropbr_core.data.batches.prepare import Prepared, predicted
from neuropbr_core.data.batches.teacher_logits import (
    TeacherMark,
)
from neuropbr_core.data.splits import TEACHER, Guide, Split, follow_split
from neuropbr_core.errors import CheckpointError, DataError, RunError
from neuropbr_core.model.generator import Generator, unsuitable
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.model.weights import SPEC, load_model, read_spec, weights_digest
from neuropbr_core.reading import read_json
from neuropbr_core.recipe.sections import Data, Jitter, Recipe
from neuropbr_core.shipped import chosen_materials, is_shipped_model, trained_materials
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.loop.objective import features_needed
from neuropbr_core.training.provenance import PROVENANCE, recorded_split, recorded_trained

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


def check_crops(spec: ModelSpec, stride: int, data: Data) -> None:
    """Refuse a teacher that cannot predict on a student's crops.

    Raises:
        RunError: Only one of them aligns its views, or the crop's side at the teacher's scale does not suit its
            encoder.
    """
    if spec.aligned != data.aligned:
        raise RunError(
            f"teacher: it was trained with data.alignment: {spec.alignment}, the student has {data.alignment}, so it "
            f"does not know the student's crops; take the same, or teacher.mode: shards"
        )
    crop = data.crop_side
    scaled = crop * spec.image_size / data.image_size
    reason = unsuitable(scaled, stride)
    if reason:
        raise RunError(
            f"teacher: a crop of {crop} px is {scaled:g} px at the teacher's image_size of {spec.image_size}, but its "
            f"encoder {reason}; change data.crop_size, or take teacher.mode: shards"
        )


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
        """Where its predictions of this size are stored when a recipe does not say.

        Raises:
            DataError: It ships with the package, which nothing may be written into.
        """
        if is_shipped_model(self.home):
            raise DataError(
                f"{self.home}: ships with NeuroPBR, and nothing is stored beside it; name a folder for its predictions "
                f"in teacher.shards, or take teacher.mode: online"
            )
        return self.home / f"shards-{size}"

    def splitter(self, data: Data, seed: int) -> Callable[[Iterable[str]], Split]:
        """Splits a student's materials as its own were split."""
        return follow(self.trained, self.held_back, data, seed)


def follow(
    trained: Collection[str], held_back: Collection[str], data: Data, seed: int, guide: Guide = TEACHER
) -> Callable[[Iterable[str]], Split]:
    """Make the function that splits materials as those of a guide were split: of a student's teacher, or of the run.

    Args:
        trained: Materials that the guide trains on.
        held_back: Materials that are held back from it.
        data: Section `data` of the recipe whose materials are split.
        seed: Its seed.
        guide: What the guide is.
    """
    return partial(
        follow_split,
        trained=trained,
        held_back=held_back,
        seed=seed,
        val_ratio=data.val_ratio,
        val_materials=data.val_materials,
        groups=data.groups,
        guide=guide,
    )


def open_teacher(checkpoint: Path) -> TrainedTeacher:
    """Read what a teacher's checkpoint and its run say of it; the weights are not loaded.

    Args:
        checkpoint: The checkpoint's folder: in its run, with the run's `provenance.json` copied into it, or of a model
            that ships. Held back from the latter are the materials that choices about it were made on.

    Raises:
        DataError: Nothing says what it was trained on.
        CheckpointError: The checkpoint is damaged.
        PluginError: A component of it is not installed.
    """
    spec = read_spec(checkpoint)
    if is_shipped_model(checkpoint):
        return TrainedTeacher(checkpoint, checkpoint, spec, trained_materials(checkpoint), chosen_materials(checkpoint))
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
    return TrainedTeacher(checkpoint, home, spec, recorded_trained(home / PROVENANCE), tuple(split["val"]))


def teachers_data(data: Data, spec: ModelSpec) -> Data:
    """Section `data` of a recipe, changed to what a teacher is shown of the same samples: whole frames at its size."""
    return replace(
        data,
        image_size=spec.image_size,
        view_size=spec.photo_size,
        output_size=spec.output_size,
        views=spec.views,
        alignment=spec.alignment,
        # Whole frames, once each and without changes: what is stored must not depend on a draw.
        crop_size=None,
        repeats=1,
        augment=False,
        jitter=Jitter(),
    )
