"""A teacher that predicts in every step, on the crop that the student sees."""

from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Prediction
from neuropbr_core.data.batches.prepare import Prepared, predicted
from neuropbr_core.errors import RunError
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.sizes import unsuitable
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.model.weights import load_model
from neuropbr_core.recipe.sections import Data, Recipe
from neuropbr_core.training.distillation.teacher import TrainedTeacher
from neuropbr_core.training.loop.objective import features_needed

_WHOLE = 1 - 1e-3
"""Visibility from which a resized pixel counts as seen: below, the black outside the view has got into it."""


def is_online(recipe: Recipe) -> bool:
    """Whether a recipe's teacher runs beside the student."""
    return recipe.teacher is not None and recipe.teacher.mode == "online"


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


def load_online(recipe: Recipe, teacher: TrainedTeacher | None, fabric: Fabric) -> OnlineTeacher | None:
    """Load a recipe's teacher to run beside the student; None for a recipe without one, or with shards.

    Raises:
        CheckpointError: Its checkpoint is damaged.
        RunError: It cannot predict on the student's crops.
    """
    if teacher is None or not is_online(recipe):
        return None
    generator, spec = load_model(teacher.checkpoint)
    features = features_needed(recipe)
    return OnlineTeacher(generator, spec, recipe.data, fabric, features=features)


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
