"""`neuropbr data pack`: decode a dataset's images once, before a run does it."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from neuropbr_core.cli.output import OUTPUT, command, result, result_json
from neuropbr_core.cli.overrides import collect_overrides, set_option


@command()
@click.argument("dataset", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--recipe", metavar="RECIPE", help="Pack what this recipe reads, at its sizes.")
@set_option
@click.option("--size", type=click.IntRange(16, 8192), help="Side of views and maps in pixels.  [default: 2048]")
@click.option("--views", type=click.IntRange(1, 64), help="Views of each sample.  [default: 3]")
@click.option(*OUTPUT, "output", metavar="DIR", help="Folder of the pack.  [default: DATASET/.pack]")
@click.option("--prune", is_flag=True, help="Remove packed images of which the dataset uses none any more.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def pack(
    *,
    dataset: Path | None,
    recipe: str | None,
    size: int | None,
    views: int | None,
    output: str | None,
    prune: bool,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Decode every image of DATASET once, into files that runs map into memory.

    A run does the same on first use (`data.pack`). Images that are packed already are kept, so the command can be
    interrupted and repeated. Clean and dirty samples are packed, or with --recipe those of its curriculum.
    """
    from neuropbr_core.data.opening import pack_dataset
    from neuropbr_core.data.pack.write import amount
    from neuropbr_core.recipe import load_recipe
    from neuropbr_core.recipe.sections import Data
    from neuropbr_core.recipe.yaml_tree import scalar
    from neuropbr_core.registry.catalog import default_registry

    # Only what was given: defaults would override the recipe's values.
    changes: dict[str, Any] = {}
    if dataset is not None:
        changes["root"] = str(dataset)
    if size is not None:
        # Views and maps are packed at one size; a recipe's super-resolution needs its own.
        changes |= {"image_size": size, "output_size": size}
    if views is not None:
        changes["views"] = views
    if output is not None:
        changes["pack"] = output
    if recipe is not None:
        # As texts behind `--set`, so that the flags win and are checked like the recipe's own values.
        texts = [f"data.{key}={scalar(value)}" for key, value in changes.items()]
        checked = load_recipe(recipe, [*collect_overrides(**overrides), *texts])
        component = checked.source
        data = checked.data
    elif dataset is not None:
        if collect_overrides(**overrides):
            raise click.UsageError("--set changes a recipe; name it with --recipe")
        component = default_registry().choose("dataset", "layout", name="source")
        # All samples, because the folder alone does not tell which curriculum a later run reads.
        data = Data(**changes, render_curriculum="mixed")
    else:
        raise click.UsageError("name a DATASET, or a recipe with --recipe")
    done = pack_dataset(component, data, prune=prune)
    if as_json:
        result_json(dataclasses.asdict(done) | {"folder": str(done.folder)})
        return
    cost = ""
    if done.packed:
        cost = f": {amount(done.nbytes)} in {done.seconds:.1f} s"
    result(f"Packed {done.packed} images of {done.samples} samples into {done.folder}{cost}; kept {done.kept}")
    if done.freed:
        result(f"Removed {amount(done.freed)} that the dataset does not use")
