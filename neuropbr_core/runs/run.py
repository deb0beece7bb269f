"""A whole run: data, training, evaluation of the best checkpoint, exports."""

from pathlib import Path

from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.plan import plan
from neuropbr_core.runs.stage import carry_out


def run(
    recipe: Recipe,
    *,
    run_name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Do what a recipe says.

    Args:
        recipe: A checked recipe.
        run_name: Name of the run; default: the recipe's.
        resume: Continue the run of that name: training goes on from the newest sound checkpoint, and stages that are
            done are skipped.
        overwrite: Replace the run of that name.

    Returns:
        The run's folder: `recipe.yaml`, `provenance.json`, `checkpoints/`, `summary.json`, `exports/` and what the
        observers write.

    Raises:
        RunError: The run cannot start, continue or finish, or another process writes it.
        NeuroPBRError: Another fault that the user can mend; each has its own class in `neuropbr_core.errors`.
    """
    path = run_path(recipe, run_name)
    return carry_out(plan(recipe, path, resume=resume, overwrite=overwrite))


def run_path(recipe: Recipe, run_name: str | None = None) -> Path:
    """Folder of a recipe's run.

    Args:
        recipe: The recipe.
        run_name: Name of the run; default: the recipe's.
    """
    return Path(recipe.training.runs_dir) / (run_name or recipe.name)
