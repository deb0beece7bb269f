"""A teacher that predicts in every step, on the crop that the student sees."""

from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Prediction
from neuropbr_core.data.batches.prepare import Prepared, predicted
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.model.weights import load_model
from neuropbr_core.recipe.sections import Data, Recipe
from neuropbr_core.training.loop.networks import check_crops
from neuropbr_core.training.loop.objective import features_needed

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
