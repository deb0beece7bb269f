"""What can be known to fail before anything is written or removed."""

import torch

from neuropbr_core.errors import RunError
from neuropbr_core.model import ModelSpec, build_generator
from neuropbr_core.model.sizes import unsuitable
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.training.distillation.online import check_crops, is_online
from neuropbr_core.training.loop.objective import Objective


def check_networks(recipe: Recipe, teacher: ModelSpec | None = None) -> None:
    """Build generator and critics without memory, and check the sizes that they will be given.

    Args:
        recipe: The recipe.
        teacher: What the recipe's teacher is built from, when it has one.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
        RunError: The encoder cannot take `data.image_size` or `data.crop_size`, or a live teacher not the crops.
    """
    with torch.device("meta"):
        generator = build_generator(ModelSpec.from_recipe(recipe))
        live = None if teacher is None or not is_online(recipe) else build_generator(teacher)
        Objective.from_recipe(recipe, generator.feature_channels, {} if live is None else live.feature_channels)
    check_sizes(recipe, generator.encoder.strides[-1])
    if live is not None and teacher is not None:
        check_crops(teacher, live.encoder.strides[-1], recipe.data)


def check_sizes(recipe: Recipe, stride: int) -> None:
    """Refuse input sizes that the encoder cannot take.

    Raises:
        RunError: `data.image_size` or `data.crop_size` is no multiple of the encoder's coarsest stride.
    """
    for key in ("image_size", "crop_size"):
        size = getattr(recipe.data, key)
        if size is not None and (reason := unsuitable(size, stride)):
            raise RunError(f"data.{key}: found {size}, but encoder {recipe.encoder.use} {reason}")
