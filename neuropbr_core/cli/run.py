"""`neuropbr run`: do what a recipe says."""

import click

from neuropbr_core.cli.completing import RecipeName
from neuropbr_core.cli.output import command, result
from neuropbr_core.cli.overrides import collect_overrides, override_options
from neuropbr_core.errors import NeuroPBRError


@command()
@click.argument("recipe", type=RecipeName())
@override_options
@click.option("--run-name", metavar="NAME", help="Name of the run's folder; default: the recipe's name.")
@click.option("--resume", is_flag=True, help="Continue the run from its newest sound checkpoint; skip what is done.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run of that name.")
@click.option("--dry-run", is_flag=True, help="Say what is there and what would be made, and do nothing.")
def run(recipe: str, run_name: str | None, resume: bool, overwrite: bool, dry_run: bool, **overrides: object) -> None:
    """Train, evaluate and export what RECIPE says.

    RECIPE is a YAML file, or `neuropbr:NAME` for one that ships with the package.
    """
    from neuropbr_core.recipe import resolve_recipe
    from neuropbr_core.recipe.check import placed

    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    resolved = resolve_recipe(recipe, collect_overrides(**overrides))
    checked = resolved.recipe
    # Imported when the recipe is known to be sound: these bring in PyTorch, which takes seconds.
    from neuropbr_core.runs.run import plan, run_path
    from neuropbr_core.runs.stage import carry_out

    try:
        planned = plan(checked, run_path(checked, run_name), resume=resume, overwrite=overwrite)
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
