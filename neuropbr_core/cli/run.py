"""`neuropbr run`: do what a recipe says."""

from contextlib import suppress
from pathlib import Path

import click

from neuropbr_core.cli.completing import RecipeName
from neuropbr_core.cli.output import command, result
from neuropbr_core.cli.overrides import collect_overrides, override_options
from neuropbr_core.errors import NeuroPBRError, RecipeError
from neuropbr_core.recipe.yaml_tree import scalar
from neuropbr_core.reporting import doing

# The name that a run's folder gives its newest checkpoint; the module that defines it brings in PyTorch.
LATEST = "latest"


@command()
@click.argument("recipe", required=False, type=RecipeName())
@override_options
@click.option("--run-name", metavar="NAME", help="Name of the run's folder; default: the recipe's name.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value=LATEST,
    metavar="[CHECKPOINT]",
    help="Continue the run from its newest sound checkpoint, and skip what is done; or from an earlier one such as "
    "epoch_0050, and keep later ones aside.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing run of that name.")
@click.option("--dry-run", is_flag=True, help="Say what is there and what would be made, and do nothing.")
def run(
    recipe: str | None, run_name: str | None, resume: str | None, overwrite: bool, dry_run: bool, **overrides: object
) -> None:
    """Train, evaluate and export what RECIPE says.

    RECIPE is a YAML file, or `neuropbr:NAME` for one that ships with the package.
    """
    from neuropbr_core.recipe import Override, resolve_recipe
    from neuropbr_core.recipe.check import placed

    # In `--resume RECIPE`, the value of the option is optional, and the parser takes the recipe for it.
    if recipe is None and resume is not None and resume != LATEST:
        recipe = resume
        resume = LATEST
    if recipe is None:
        raise click.UsageError("Missing argument 'RECIPE'.")
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    changes = collect_overrides(**overrides)
    if resume is not None:
        changes.append(Override(f"training.resume_from={scalar(resume)}", f"--resume {resume}"))
    elif overwrite:
        changes.append(Override("training.resume_from=null", "--overwrite"))
    try:
        resolved = resolve_recipe(recipe, changes)
    except RecipeError as error:
        if resume is not None:
            _explain(error, recipe, run_name, changes)
        raise
    checked = resolved.recipe
    # Imported when the recipe is known to be sound: these bring in PyTorch, which takes seconds.
    from neuropbr_core.runs.run import plan, run_path
    from neuropbr_core.runs.stage import carry_out

    wish = checked.training.resume_from or False
    try:
        with doing("planning the run"):
            planned = plan(checked, run_path(checked, run_name), resume=wish, overwrite=overwrite)
    except NeuroPBRError as error:
        raise placed(error, resolved.root) from error
    if not dry_run:
        carry_out(planned)
        return
    # The stages describe themselves, so a dry run cannot promise what a run would not do.
    for line in planned.lines():
        result(line)
    if planned.is_done():
        result(f"Nothing is left to do: {planned.folder.path}")


def _explain(error: RecipeError, recipe: str, run_name: str | None, changes: list[str]) -> None:
    """Add to an error in the recipe of a run that is to go on what the run was made with, and is missing here."""
    from neuropbr_core.recipe.merge import read_tree
    from neuropbr_core.recipe.sections import Training
    from neuropbr_core.runs.folder import RunFolder

    # An error of the search itself must not hide the one that is explained.
    with suppress(NeuroPBRError, OSError, AttributeError, TypeError):
        # Each `use` is kept as text: what is not installed must not hide where the run is.
        root, _ = read_tree(recipe, changes, lambda _, use: use)
        tree = root.plain()
        runs = tree.get("training", {}).get("runs_dir", Training.runs_dir)
        name = run_name or tree.get("name", Path(recipe.removeprefix("neuropbr:")).stem)
        with RunFolder(Path(runs, name)).explaining():
            raise error
