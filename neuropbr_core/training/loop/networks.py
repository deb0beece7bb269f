"""Checks a recipe's networks and sizes before a run starts, without memory for their weights."""

import torch

from neuropbr_core.errors import RunError
from neuropbr_core.model.build import build_generator
from neuropbr_core.model.sizes import unsuitable
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.recipe.sections import Data, Recipe
from neuropbr_core.training.loop.objective import Objective


def check_networks(recipe: Recipe, teacher: ModelSpec | None = None) -> None:
    """Build generator and critics without memory, and check the sizes that they will be given.

    Args:
        recipe: The recipe.
        teacher: What the recipe's teacher is built from, when it has one.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
        RunError: The encoder cannot take `data.image_size` or `data.crop_size`, or an online teacher the crops.
    """
    with torch.device("meta"):  # tensors have shapes but no memory
        generator = build_generator(ModelSpec.from_recipe(recipe))
        teacher_features: dict[str, int] = {}
        if teacher is not None and recipe.has_online_teacher:
            teacher_generator = build_generator(teacher)
            teacher_features = teacher_generator.feature_channels
        # Built for its errors alone: a critic may refuse the size of the crops.
        Objective.from_recipe(recipe, generator.feature_channels, teacher_features)
    stride = generator.encoder.strides[-1]
    for key in ("image_size", "crop_size"):
        size = getattr(recipe.data, key)
        if size is None:  # without `crop_size`, crops are whole frames
            continue
        reason = unsuitable(size, stride)
        if reason:
            raise RunError(f"data.{key}: found {size}, but encoder {recipe.encoder.use} {reason}")
    if teacher is not None and recipe.has_online_teacher:
        check_crops(teacher, teacher_generator.encoder.strides[-1], recipe.data)


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
