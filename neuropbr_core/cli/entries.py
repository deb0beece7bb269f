"""Components that a command names itself, such as `--to onnx` and `--for blender`, with `--option [NAME.]KEY=VALUE`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from neuropbr_core.registry.chosen import Chosen

Command = TypeVar("Command", bound=Callable[..., Any])


def option_option(component: str) -> Callable[[Command], Command]:
    """Add `--option [NAME.]KEY=VALUE`, which may be given several times.

    Args:
        component: What the command names, such as `exporter`.
    """
    return click.option(
        "--option",
        "options",
        multiple=True,
        metavar="[NAME.]KEY=VALUE",
        help=f"An option of one {component}, or of all that are named. Repeatable.",
    )


def named_entries(
    kind: str, flag: str, targets: str, words: Sequence[tuple[str, str]], base: Path | None = None
) -> "dict[str, Chosen]":
    """The components that the command line names, checked like entries of a recipe.

    Args:
        kind: Kind of component.
        flag: The option that names them, such as `--to`.
        targets: Their names, separated by commas.
        words: Options as `[NAME.]KEY=VALUE`, each with the words of the user, which an error repeats.
        base: A recipe whose entries of these names are started from.

    Raises:
        RecipeError: A name or an option is wrong; all problems at once.
    """
    from neuropbr_core.kinds import KINDS
    from neuropbr_core.recipe.loading import entry_name, load_entries
    from neuropbr_core.recipe.merge import Override

    section = ".".join(KINDS[kind].section)
    named = {}
    overrides = []
    entries: dict[str, str] = {}
    for target in map(str.strip, targets.split(",")):
        name = entry_name(target)
        if name in entries.values():
            raise click.UsageError(f"{flag} names two components {name}; call the command once for each")
        named[target] = f"{flag} {target}"
        entries[target] = name
    for text, argument in words:
        first, dot, _ = text.partition("=")[0].partition(".")
        entry = entries.get(first.strip(), first.strip())
        if dot and entry in entries.values():
            option = text.partition(".")[2]
            overrides.append(Override(f"{section}.{entry}.{option}", argument))
            continue
        for name in entries.values():  # an option without a name is one of each component
            overrides.append(Override(f"{section}.{name}.{text}", argument))
    return load_entries(KINDS[kind], named, overrides, base=base)


def spelled(options: Sequence[str]) -> list[tuple[str, str]]:
    """Values of `--option`, each with the words of the user."""
    return [(text, f"--option {text}") for text in options]
