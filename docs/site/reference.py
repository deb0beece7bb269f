"""What the reference pages take from the program: commands, keys of recipes, components, modules about materials."""

import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import click

from neuropbr_core import materials
from neuropbr_core.cli import root
from neuropbr_core.cli.option_rows import OptionRow, option_rows
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.recipe.reference import editor_schema, section_tables
from neuropbr_core.registry import Registry

DISTRIBUTION = "neuropbr"
CODE = re.compile(r"(`[^`]*`)")
MARKUP = re.compile(r"([\\*_<>\[\]|#~$])")


def prose(text: str) -> str:
    """Text of the program as Markdown: what is not between backticks has no markup."""
    parts = CODE.split(text)
    # The pattern is a group, so that code is at the odd positions.
    for position in range(0, len(parts), 2):
        parts[position] = MARKUP.sub(r"\\\1", parts[position])
    return "".join(parts)


def cell(text: str) -> str:
    """Text of the program in a table."""
    # A table needs its bars escaped in code too.
    return re.sub(r"(?<!\\)\|", r"\|", prose(" ".join(text.split())))


def code(text: str) -> str:
    """Code in a table."""
    return "`" + text.replace("|", r"\|") + "`"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table whose cells are Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def commands() -> str:
    """Every command with its arguments and options, as `--help` shows them."""
    overview = []
    for name, lazy in root.table.items():
        overview.append((f"[`neuropbr {name}`](#neuropbr-{name})", cell(lazy.short_help)))
    parts = [table(("command", "what it does"), overview)]
    for context in _contexts(click.Context(root, info_name="neuropbr")):
        parts += _command(context)
    return "\n\n".join(parts) + "\n"


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """A command and, below it, the commands of a group."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None:
                yield from _contexts(click.Context(command, info_name=name, parent=context))


def _command(context: click.Context) -> list[str]:
    command = context.command
    # A command of a group is a part of the group's section.
    depth = 2 if context.parent is None or context.parent.parent is None else 3
    words = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"{'#' * depth} `{context.command_path}`", f"```text\n{words}\n```"]
    help_text = inspect.cleandoc(command.help or "")
    parts += [prose(paragraph) for paragraph in help_text.split("\n\n")]
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        # Every command has `--help`, and the text above describes the arguments.
        if record is not None and isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            rows.append((code(record[0]), cell(record[1])))
    if rows:
        parts.append(table(("option", "meaning"), rows))
    return parts


def sections() -> str:
    """Every key that the core reads from recipes."""
    # The tables are written for a page with a section around them.
    return re.sub(r"^### ", "## ", section_tables(), flags=re.MULTILINE)


def components() -> str:
    """Every component that ships, with its options."""
    registry = Registry()
    parts = []
    for kind in KINDS.values():
        parts.append(f"## {kind.name.capitalize()}")
        parts.append(_place(kind))
        rows = option_rows(kind.entry_options)
        if rows:
            parts += ["Every entry of this kind has these keys beside the component's own options:", _options(rows)]
        for entry in registry.entries(kind.name):
            if entry.distribution != DISTRIBUTION:
                continue
            parts.append(f"### `{kind.name}/{entry.name}`")
            parts += [prose(text) for text in inspect.cleandoc(entry.docstring() or "").split("\n\n")]
            own = option_rows(registry.options(kind.name, entry.qualified))
            parts.append(_options(own) if own else "It has no options.")
    return "\n\n".join(parts) + "\n"


def _place(kind: Kind) -> str:
    """Where one names a component of a kind."""
    path = ".".join(kind.section)
    contract = f"[the contract](../docs/plugins/{kind.name}.md)"
    if not kind.in_recipes:
        return f"Commands name it: `--for NAME --option NAME.KEY=VALUE`. Authors read {contract}."
    if kind.many:
        return f"A recipe names it in `{path}`: `NAME: {{KEY: VALUE}}`. Authors read {contract}."
    return f"A recipe names it in `{path}`: `{{use: NAME, KEY: VALUE}}`. Authors read {contract}."


def _options(rows: list[OptionRow]) -> str:
    lines = []
    for row in rows:
        values = row.type
        if row.range:
            values = f"{row.type}, {row.range}"
        default = "required"
        if not row.required:
            default = code(json.dumps(row.default, ensure_ascii=False))
        # The default of a nested mapping is shown with its keys, in the rows below.
        if isinstance(row.default, dict) and row.default:
            default = "below"
        lines.append((code(row.name), cell(values), default, cell(row.description)))
    return table(("option", "value", "default", "meaning"), lines)


def schema() -> dict[str, Any]:
    """The JSON Schema of recipes with the components that ship."""
    composed, broken = editor_schema(Registry())
    if broken:
        raise SystemExit(f"components that do not load: {broken}")
    return composed


def materials_pages() -> dict[str, str]:
    """A page for each module about materials, and a page that lists them."""
    prefix = f"{materials.__name__}."
    names = sorted(module.name.removeprefix(prefix) for module in pkgutil.walk_packages(materials.__path__, prefix))
    title = "Materials: ``neuropbr_core.materials``"
    listed = "".join(f"   {name}\n" for name in names)
    index = f"{title}\n{'=' * len(title)}\n\n.. automodule:: neuropbr_core.materials\n\n.. toctree::\n\n{listed}"
    pages = {"index": index}
    for name in names:
        module = prefix + name
        title = f"``{module}``"
        pages[name] = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {module}\n"
    return pages
