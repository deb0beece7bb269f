"""Every command of ours that a page shows is one that the program understands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from assemble import repository_pages
from markdown_it import MarkdownIt

from neuropbr_core.cli import root

ROOT = Path(__file__).parents[2]
MISSPELT = "neuropbr data sythesize"
"""The changelog tells of the answer to it."""
SHELL = ("", "bash", "console", "sh", "text")


def shown_commands(text: str) -> Iterator[str]:
    """The commands of a page, in blocks and between backticks."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "code_block" or (token.type == "fence" and token.info.strip() in SHELL):
            # A backslash at a line's end continues the line.
            for line in token.content.replace("\\\n", " ").splitlines():
                # In a block a command begins a line, perhaps behind a prompt or the folder of an environment.
                match = re.match(r"(?:\$ )?(?:\.venv/bin/)?(neuropbr [a-z-].*)", line)
                if match:
                    yield match[1]
        for child in token.children or ():
            if child.type == "code_inline" and re.match(r"neuropbr [a-z-]", child.content):
                yield child.content


def commands_of_all_pages() -> list[str]:
    commands: set[str] = set()
    for page in repository_pages():
        commands.update(shown_commands((ROOT / page).read_text(encoding="utf-8")))
    return sorted(commands - {MISSPELT})


def check(text: str) -> None:
    """Read a command as the program does, without looking for files; fails when it is not understood.

    Words in capitals stand for something, and an option at the end may lack its value, since sentences mention options.
    """
    words = shlex.split(text, comments=True)[1:]
    context = click.Context(root, info_name="neuropbr")
    command: click.Command = root
    while isinstance(command, click.Group):
        # The options of the program itself stand before the command's name.
        _, rest, _ = command.make_parser(context).parse_args(list(words))
        if not rest or rest[0].isupper():
            return
        inner = command.get_command(context, rest[0])
        assert inner is not None, f"{text}: no command {rest[0]}"
        command, words = inner, rest[1:]
        context = click.Context(command, info_name=rest[0], parent=context)
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(words))
    except click.BadOptionUsage as error:
        if words[-1] == error.option_name:
            return
        raise
    assert rest == [], f"{text}: too many words"
    for parameter in command.params:
        # Files need not exist here, but a name from a list must be in the list.
        value = values.get(str(parameter.name))
        if isinstance(parameter.type, click.Choice) and value is not None and not str(value).isupper():
            parameter.type_cast_value(context, value)


@pytest.mark.parametrize("text", commands_of_all_pages())
def test_the_program_understands_it(text: str) -> None:
    check(text)


def test_there_are_many() -> None:
    assert len(commands_of_all_pages()) > 120


@pytest.mark.parametrize(
    "text",
    [
        MISSPELT,
        "neuropbr traim recipe.yaml",
        "neuropbr run recipe.yaml --epoch 3 --no-such-option",
        "neuropbr infer a b",
        "neuropbr --bock x run recipe.yaml",
        "neuropbr data synthesize --materials DIR --output DIR --kind flsh",
    ],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        check(text)


def test_commands_are_found_in_every_form() -> None:
    text = (
        "`neuropbr doctor`\n\n```console\n$ neuropbr run a.yaml \\\n    --epochs 3\n```\n\n"
        "    .venv/bin/neuropbr batch x\n\n```yaml\nneuropbr: 1\n```\n"
    )
    assert [command.split() for command in shown_commands(text)] == [
        ["neuropbr", "doctor"],
        ["neuropbr", "run", "a.yaml", "--epochs", "3"],
        ["neuropbr", "batch", "x"],
    ]
