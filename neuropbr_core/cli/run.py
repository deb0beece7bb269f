"""`neuropbr run`: do what a recipe says."""

import click

from neuropbr_core.cli.overrides import collect_overrides, override_options


@click.command()
@click.argument("recipe")
@override_options
@click.option("--run-name", metavar="NAME", help="Name of the run's folder; default: the recipe's name.")
@click.option("--resume", is_flag=True, help="Continue the run from its newest sound checkpoint.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run of that name.")
def run(recipe: str, run_name: str | None, resume: bool, overwrite: bool, **overrides: object) -> None:
    """Train, evaluate and export what RECIPE says.

    RECIPE is a YAML file, or `neuropbr:NAME` for one that ships with the package.
    """
    from neuropbr_core.recipe import load_recipe

    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    checked = load_recipe(recipe, collect_overrides(**overrides))
    from neuropbr_core.training.run import run as run_recipe

    run_recipe(checked, run_name=run_name, resume=resume, overwrite=overwrite, report=click.echo)
