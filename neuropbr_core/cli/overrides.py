"""Options of commands that take a recipe: `--set`, and short flags for the keys that change from run to run.

@command()
@click.argument("recipe")
@override_options                 # or `set_option` for `--set` alone
def command(recipe: str, **overrides: object) -> None:
    checked = load_recipe(recipe, collect_overrides(**overrides))
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

SET = "--set"
SET_NAME = "set_values"


@dataclass(frozen=True)
class Flag:
    """A short way to set one key of a recipe.

    Attributes:
        flag: The option, such as `--epochs`.
        key: The key that it sets.
        help: One line for `--help`.
        type: What the option takes; None for a switch, which sets `value`.
        metavar: How `--help` names what it takes.
        value: What a switch sets.
        aliases: Other names of the option.
    """

    flag: str
    key: str
    help: str
    type: "click.ParamType[Any] | None" = click.STRING
    metavar: str | None = None
    value: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The parameter that the command receives."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def option(self) -> Callable[[Command], Command]:
        """The click decorator."""
        if self.type is None:
            return click.option(self.flag, self.name, is_flag=True, help=self.help)
        names = (self.flag, *self.aliases, self.name)
        return click.option(*names, type=self.type, metavar=self.metavar, help=self.help)


CURRICULUM = click.Choice(("0", "1", "2", "clean", "mixed", "dirty"))

FLAGS: tuple[Flag, ...] = (
    Flag("--data", "data.root", "Dataset folder with input/ and output/.", metavar="DIR"),
    Flag("--input-dir", "data.input_dir", "Folder of the views.", metavar="DIR"),
    Flag("--output-dir", "data.output_dir", "Folder of the true maps.", metavar="DIR"),
    Flag("--render-curriculum", "data.render_curriculum", "0 clean, 1 as on disk, 2 dirty renders.", CURRICULUM),
    Flag("--use-dirty", "data.use_dirty", "Older name for --render-curriculum 2.", None, value="true"),
    Flag("--device", "training.device", "auto, cpu, cuda or mps.", metavar="NAME"),
    Flag("--batch-size", "training.batch_size", "Samples in a step, on each device.", click.INT, "N"),
    Flag("--epochs", "training.epochs", "Passes over the training set.", click.INT, "N"),
    Flag("--seed", "training.seed", "Seed of weights, split, order and augmentation.", click.INT, "N"),
    Flag(
        "--runs-dir",
        "training.runs_dir",
        "Folder of the run folders, which hold the checkpoints.",
        metavar="DIR",
        aliases=("--checkpoint-dir",),
    ),
)


def set_option(command: Command) -> Command:
    """Add `--set KEY=VALUE`, which may be given several times."""
    help_text = "Change a value of the recipe, such as training.epochs=20; VALUE is YAML. Repeatable."
    return click.option(SET, SET_NAME, multiple=True, metavar="KEY=VALUE", help=help_text)(command)


def override_options(command: Command) -> Command:
    """Add `--set` and all of `FLAGS`."""
    for flag in reversed(FLAGS):
        command = flag.option(command)
    return set_option(command)


def collect_overrides(**values: Any) -> list[str]:
    """Turn the options that were given into overrides for `load_recipe`.

    Args:
        **values: The parameters that `set_option` or `override_options` added to a command.

    Returns:
        The `--set` texts in their order, then the flags, which win; each flag keeps the words that the user wrote.

    Raises:
        click.UsageError: `--use-dirty` and another `--render-curriculum` than dirty were both given.
    """
    if values.get("use_dirty") and values.get("render_curriculum") not in (None, "2", "dirty"):
        raise click.UsageError("--use-dirty means --render-curriculum 2; give only one of them")
    given = [(flag, values.get(flag.name)) for flag in FLAGS]
    flags = [_override(flag, value) for flag, value in given if value is not None and value is not False]
    return [*values.get(SET_NAME, ()), *flags]


def _override(flag: Flag, value: Any) -> str:
    from neuropbr_core.recipe.overrides import Override
    from neuropbr_core.recipe.text import scalar

    if flag.type is None:
        return Override(f"{flag.key}={flag.value}", flag.flag)
    # Folders and devices are text whatever they look like; a curriculum's number is a number.
    text = value if flag.type is CURRICULUM else scalar(value)
    return Override(f"{flag.key}={text}", f"{flag.flag} {value}")
