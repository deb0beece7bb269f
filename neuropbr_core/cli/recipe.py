"""`neuropbr recipe`: check, show, describe and compare recipes."""

from pathlib import Path
from typing import Any

import click

from neuropbr_core.cli.completing import RecipeName
from neuropbr_core.cli.faults import Session
from neuropbr_core.cli.lazy import Group
from neuropbr_core.cli.output import OUTPUT, Command, numbers, result, result_json
from neuropbr_core.cli.overrides import collect_overrides, set_option
from neuropbr_core.errors import DataError, NeuroPBRError
from neuropbr_core.files import write_text
from neuropbr_core.reporting import reporter

COMMENT_COLUMN = 44
"""Where `show` puts its comments, unless a value reaches further."""


@click.group(cls=Group)
def recipe() -> None:
    """Check, show and compare recipes.

    A RECIPE is a YAML file, or `neuropbr:NAME` for one that ships with the package.
    """


@recipe.command(cls=Command)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE…", type=RecipeName())
@set_option
@click.pass_context
def check(context: click.Context, /, recipes: tuple[str, ...], **overrides: Any) -> None:
    """Report everything that is wrong with RECIPE, and with the recipe that makes its teacher.

    To find what does not fit together, the networks are built, without memory. This takes seconds. A recipe without a
    fault is not checked again while all that it depends on stays as it was.
    """
    from neuropbr_core.reading import noting_reads
    from neuropbr_core.recipe import resolve_recipe, teachers_recipe
    from neuropbr_core.recipe.watched import watched_files

    failed = False
    lines = []
    watched = set[Path]()
    is_known = True
    # All recipes are checked before the command fails, so that one call finds everything.
    for path in recipes:
        try:
            with noting_reads() as files:
                resolved = resolve_recipe(path, collect_overrides(**overrides))
                teacher = teachers_recipe(resolved.recipe)
            # Imported when the recipe itself is sound: the parts need PyTorch.
            from neuropbr_core.training.loop.networks import check_buildable

            check_buildable(resolved, teacher)
        except NeuroPBRError as error:
            reporter().line(str(error))
            failed = True
            continue
        lines.append(f"recipe ok: {path}")
        result(lines[-1])
        others = watched_files(resolved.recipe, teacher)
        if others is None:
            is_known = False
        else:
            watched |= files | others
    if is_known and not failed:
        context.ensure_object(Session).keep("\n".join(lines), watched)
    context.exit(int(failed))


@recipe.command(cls=Command)
@click.argument("path", metavar="RECIPE", type=RecipeName())
@set_option
def show(path: str, **overrides: Any) -> None:
    """Print RECIPE resolved: every value, and where it came from."""
    from neuropbr_core.recipe import resolve_recipe
    from neuropbr_core.recipe.yaml_tree import lines as yaml_lines

    resolved = resolve_recipe(path, collect_overrides(**overrides))
    for keys, line in yaml_lines(resolved.recipe.tree):
        if not line or line.endswith(":"):  # a group has no value, and its keys may come from several places
            result(line)
        else:
            result(f"{line:<{COMMENT_COLUMN}}  # {resolved.origin(keys)}")


@recipe.command(cls=Command)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE…", type=RecipeName())
@set_option
def cost(recipes: tuple[str, ...], **overrides: Any) -> None:
    """Print the parameters, operations and memory of RECIPE's networks.

    Counted for one sample, without running them: an operation is a multiplication or an addition of a forward pass;
    activations are what training keeps of it for the backward pass, in bfloat16.
    """
    from neuropbr_core.model.cost import cost as count
    from neuropbr_core.recipe import load_recipe

    for path in recipes:
        counted = count(load_recipe(path, collect_overrides(**overrides)))
        rows = [("part", "parameters", "GFLOP", "activations MB")]
        for part in (*counted.parts, counted.total):
            megabytes = "-"  # of a critic, whose activations are not counted
            if part.saved_bytes is not None:
                megabytes = f"{part.saved_bytes / 1e6:,.1f}"
            rows.append((part.name, f"{part.parameters:,}", f"{part.flops / 1e9:,.1f}", megabytes))
        sizes = f"{counted.views} views of {counted.image_size}×{counted.image_size}"
        # Activations are those of training, which may be of smaller crops than the operations are counted for.
        crops = ""
        if counted.train_size != counted.image_size:
            crops = f", trained on crops of {counted.train_size}"
        result(f"{path}: {sizes} to maps of {counted.output_size}×{counted.output_size}{crops}")
        result(numbers(rows, indent="  "))


@recipe.command(cls=Command)
@click.option(*OUTPUT, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write it there.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is no such schema.")
def schema(output: Path | None, overwrite: bool) -> None:
    """Print the JSON Schema of recipes, with all installed components, for editors.

    Write it to a file. In VS Code and other editors with yaml-language-server, begin a recipe with the line
    `# yaml-language-server: $schema=FILE`; in JetBrains' programs, with `# $schema: FILE`. Components that do not load
    are named on stderr and left out.
    """
    import json

    from neuropbr_core.recipe.reference import editor_schema
    from neuropbr_core.registry.catalog import default_registry

    # An editor's schema is useful without the components that do not load, so these are no errors.
    composed, broken = editor_schema(default_registry())
    for error in broken:
        reporter().line(f"left out: {error}")
    if output is None:
        result_json(composed)
    else:
        if output.exists() and not overwrite and not _is_schema(output):
            raise DataError(f"{output}: is there and is no schema of recipes; choose another, or add --overwrite")
        # In UTF-8 whatever the terminal's encoding is, unlike a redirection.
        write_text(output, json.dumps(composed, indent=2, ensure_ascii=False) + "\n")
        result(f"wrote {output}")


@recipe.command(cls=Command)
@click.argument("old", metavar="A", type=RecipeName())
@click.argument("new", metavar="B", type=RecipeName())
def diff(old: str, new: str) -> None:
    """Print the values in which recipe B differs from recipe A, names and descriptions aside."""
    from neuropbr_core.recipe import load_recipe
    from neuropbr_core.recipe.compare import differences

    lines = list(map(str, differences(load_recipe(old).tree, load_recipe(new).tree)))
    for line in lines or ["no differences"]:
        result(line)


@recipe.command("list", cls=Command)
def list_recipes() -> None:
    """List the recipes that ship with the package."""
    from neuropbr_core.recipe.reference import shipped_recipes

    rows = shipped_recipes()
    width = max((len(name) for name, _ in rows), default=0)
    for name, description in rows:
        result(f"{name:<{width}}  {description}".rstrip())


def _is_schema(path: Path) -> bool:
    """Whether a file is the schema of recipes, of this version or another."""
    from neuropbr_core.reading import parse_plain, read_bytes
    from neuropbr_core.recipe.schema import TITLE

    try:
        document = parse_plain(read_bytes(path))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("title") == TITLE
