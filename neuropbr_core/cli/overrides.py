"""Options for keys of recipes: `--set`, short flags for keys that change from run to run, and single keys.

Help, and for single keys also type, range and default, are those of the recipe's sections.

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

from neuropbr_core.recipe.english import Schema
from neuropbr_core.recipe.merge import SET, Override
from neuropbr_core.recipe.schema import core_sections, key_schema
from neuropbr_core.recipe.yaml_tree import scalar

Command = TypeVar("Command", bound=Callable[..., Any])

SET_NAME = "set_values"


@dataclass(frozen=True)
class Flag:
    """A short way to set one key of a recipe.

    Attributes:
        flag: The option, such as `--epochs`.
        key: The key that it sets; its description in the recipe's section is the option's help.
        type: What the option takes; None for a switch, which sets `value`.
        metavar: How `--help` names what it takes.
        value: What a switch sets.
        aliases: Other names of the option.
    """

    flag: str
    key: str
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
        section, _, name = self.key.partition(".")
        help_text = key_schema(core_sections()[section], name)["description"]
        if self.type is None:
            return click.option(self.flag, self.name, is_flag=True, help=help_text)
        names = (self.flag, *self.aliases, self.name)
        return click.option(*names, type=self.type, metavar=self.metavar, help=help_text)


def number(curriculum: str) -> Any:
    """A render curriculum as recipes write it: `0`, `1` and `2` are numbers, names are text."""
    if curriculum.isdigit():
        return int(curriculum)
    return curriculum


CURRICULUM = click.Choice(("0", "1", "2", "clean", "mixed", "dirty", "auto"))


class CountOrAuto(click.ParamType[str]):
    """An integer, or `auto`."""

    name = "integer"

    def convert(self, value: str, param: click.Parameter | None, context: click.Context | None) -> str:
        """Let through what the recipe's check can judge."""
        if value != "auto" and not value.lstrip("-").isdecimal():
            self.fail(f"{value!r} is not an integer, and not auto", param, context)
        return value


COUNT_OR_AUTO = CountOrAuto()

FLAGS: tuple[Flag, ...] = (
    Flag("--data", "data.root", metavar="DIR"),
    Flag("--input-dir", "data.input_dir", metavar="DIR"),
    Flag("--output-dir", "data.output_dir", metavar="DIR"),
    Flag("--render-curriculum", "data.render_curriculum", CURRICULUM),
    Flag("--use-dirty", "data.use_dirty", None, value="true"),
    Flag("--device", "training.device", metavar="NAME"),
    # Ranges are the recipe's business: its error says from which flag a value came.
    Flag("--batch-size", "training.batch_size", COUNT_OR_AUTO, "N|auto"),
    Flag("--epochs", "training.epochs", click.INT, "N"),
    Flag("--seed", "training.seed", click.INT, "N"),
    Flag("--init-from", "training.init_from", metavar="PLACE"),
    Flag("--runs-dir", "training.runs_dir", metavar="DIR", aliases=("--checkpoint-dir",)),
)


def key_option(section: type, key: str, *flags: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option for one key of a recipe's section, with the section's type, range, default and description.

    Args:
        section: The section's dataclass.
        key: The key, which is also the parameter that the command receives.
        flags: The option's names; default: the key's.
        **attributes: Other attributes of `click.option`, which win.
    """
    schema = key_schema(section, key)
    own = {
        "type": _parameter_type(schema),
        "default": schema.get("default"),
        "show_default": True,
        "help": schema["description"],
    }
    names = flags or (f"--{key.replace('_', '-')}",)
    return click.option(*names, key, **{**own, **attributes})


def _parameter_type(schema: Schema) -> "click.ParamType[Any]":
    """The type and range that click checks before the recipe does."""
    for alternative in schema.get("anyOf", ()):
        # An option that is not given is null already.
        if alternative.get("type") != "null":
            return _parameter_type(alternative)
    low = schema.get("minimum")
    high = schema.get("maximum")
    if schema.get("type") == "integer":
        return click.IntRange(low, high)
    if schema.get("type") == "number":
        return click.FloatRange(low, high)
    if schema.get("type") == "boolean":
        return click.BOOL
    return click.STRING


def set_option(command: Command) -> Command:
    """Add `--set KEY=VALUE`, which may be given several times."""
    help_text = "Change a value of the recipe, such as training.epochs=20; VALUE is YAML. Repeatable."
    return click.option(SET, SET_NAME, multiple=True, metavar="KEY=VALUE", help=help_text)(command)


def override_options(command: Command) -> Command:
    """Add `--set` and all of `FLAGS`."""
    # The decorator that is applied last is the first in the help.
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
    overrides = list(values.get(SET_NAME, ()))
    for flag in FLAGS:
        value = values.get(flag.name)
        if value is None or value is False:  # a switch that is not given is False
            continue
        if flag.type is None:
            overrides.append(Override(f"{flag.key}={flag.value}", flag.flag))
            continue
        # Folders and devices are text whatever they look like; a curriculum's number is a number.
        text = scalar(value)
        if flag.type in (CURRICULUM, COUNT_OR_AUTO):
            text = value
        overrides.append(Override(f"{flag.key}={text}", f"{flag.flag} {value}"))
    return overrides
