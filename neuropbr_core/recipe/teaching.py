"""The recipe of a recipe's teacher: what it says itself, and what it takes over from its student."""

from collections.abc import Sequence

from neuropbr_core.errors import Problem, RecipeError
from neuropbr_core.recipe.loading import load_recipe
from neuropbr_core.recipe.overrides import Override
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.recipe.text import flow

_SHARED = ("source", "root", "input_dir", "output_dir", "metadata", "synthesize", "pack")
"""Keys of `data` that say where samples are."""

_PLACES = ("device", "devices", "runs_dir")
"""Keys of `training` that say where to train and where runs go."""


def teachers_recipe(recipe: Recipe) -> Recipe | None:
    """Load and check the recipe that makes a recipe's teacher.

    Args:
        recipe: The student's recipe.

    Returns:
        The teacher's recipe; None where there is no teacher, or one that must be there.

    Raises:
        RecipeError: It is wrong, `teacher.overrides` are, or it has a teacher itself.
    """
    section = recipe.teacher
    if section is None or section.recipe is None:
        return None
    theirs = load_recipe(section.recipe, [*_passed_on(recipe), *_told(section.overrides)], recipe.source.registry)
    if theirs.teacher is not None:
        message = "has a teacher itself; train that first, and name teacher.run in its student's recipe"
        raise RecipeError([Problem(section.recipe, 1, 1, "teacher", message)])
    return theirs


def _passed_on(recipe: Recipe) -> list[Override]:
    """What a teacher's recipe takes over: where the data are, where to train, and where runs go."""
    values = {f"data.{key}": recipe.tree["data"][key] for key in _SHARED}
    if recipe.data.val_materials:
        values["data.val_materials"] = list(recipe.data.val_materials)
    values |= {f"training.{key}": getattr(recipe.training, key) for key in _PLACES}
    texts = {key: f"{key}={flow(value)}" for key, value in values.items()}
    return [Override(text, f"student's {key}") for key, text in texts.items()]


def _told(overrides: Sequence[str]) -> list[Override]:
    return [Override(text, f"teacher.overrides {text}") for text in overrides]
