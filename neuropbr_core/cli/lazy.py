"""Command groups: they suggest the nearest command for an unknown one, and import a command when it is called."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from neuropbr_core.shown import shortened
from neuropbr_core.suggestions import did_you_mean


class LazyCommand(NamedTuple):
    """A command that is not imported yet.

    Attributes:
        target: `module:attribute` of the click command.
        short_help: Its line in the group's help; a test holds it equal to the command's own.
        keeps_answers: Whether it keeps answers, which the program gives again without importing it (`answers.py`).
    """

    target: str
    short_help: str
    keeps_answers: bool = False

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


class Group(click.Group):
    """A group that answers an unknown command with the nearest known one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of the command line; none may hold a zero byte, which no path has."""
        for word in args:
            if "\0" in word:
                ctx.fail(f"{shortened(word)}: holds a zero byte, which no path or name has")
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with; an unknown one is an error with the nearest name."""
        # click calls this with at least one word; without any it shows the help.
        name = args[0]
        known = self.list_commands(ctx)
        # click itself reports unknown options, and shell completion parses words that are not complete yet.
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"There is no command {name!r}.{did_you_mean(name, known)} Commands: {', '.join(known)}.")
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group whose help imports no command.

    Args:
        table: Commands by name, in the order of the help.
        **attributes: As for `click.Group`.
    """

    def __init__(self, *, table: Mapping[str, LazyCommand], **attributes: Any) -> None:
        super().__init__(**attributes)
        self.table = dict(table)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names of the commands, in the table's order."""
        # In the table's order: click would sort the names.
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command; None when there is none of that name."""
        if cmd_name not in self.table:
            return None
        return self.table[cmd_name].load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write the commands' help lines from the table."""
        # click would ask each command for its help, and so import it.
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.short_help) for name, command in self.table.items()])
