"""A whole run: data, training, evaluation of the best checkpoint, exports."""

import re
from pathlib import Path

from neuropbr_core.errors import RunError
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.plan import plan
from neuropbr_core.runs.stage import carry_out

_PLAIN_NAME = re.compile(r"\w[\w .+=@-]*")
"""No separators, no `..` and no hidden folders, whatever the operating system takes for a path."""


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

    Raises:
        RunError: The name is no plain name of a folder, and so could lead out of the folder of the runs.
    """
    name = recipe.name if run_name is None else run_name
    if not _PLAIN_NAME.fullmatch(name):
        raise RunError(
            f"run name {name!r}: is not the plain name of a folder; allowed are letters, digits, spaces and "
            f". _ + - = @, beginning with a letter, a digit or _. training.runs_dir names the folder of the runs"
        )
    return Path(recipe.training.runs_dir) / name
