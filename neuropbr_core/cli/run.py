"""`neuropbr run`: do what a recipe says."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from neuropbr_core.cli.output import command, result
from neuropbr_core.cli.overrides import collect_overrides, override_options

if TYPE_CHECKING:
    from neuropbr_core.recipe import Recipe


@command()
@click.argument("recipe")
@override_options
@click.option("--run-name", metavar="NAME", help="Name of the run's folder; default: the recipe's name.")
@click.option("--resume", is_flag=True, help="Continue the run from its newest sound checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run of that name.")
@click.option("--dry-run", is_flag=True, help="Say what is there and what would be made, and do nothing.")
def run(recipe: str, run_name: str | None, resume: bool, overwrite: bool, dry_run: bool, **overrides: object) -> None:
    """Train, evaluate and export what RECIPE says.

    RECIPE is a YAML file, or `neuropbr:NAME` for one that ships with the package.
    """
    from neuropbr_core.recipe import load_recipe

    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    checked = load_recipe(recipe, collect_overrides(**overrides))
    if dry_run:
        _say_plan(checked, run_name or checked.name, resume=resume, overwrite=overwrite)
        return
    from neuropbr_core.runs.run import run as run_recipe

    run_recipe(checked, run_name=run_name, resume=resume, overwrite=overwrite)


def _say_plan(checked: "Recipe", name: str, *, resume: bool, overwrite: bool) -> None:
    from neuropbr_core.runs.plan import plan_run

    path = Path(checked.training.runs_dir) / name
    for line in plan_run(checked, path, resume=resume, overwrite=overwrite):
        result(line)
