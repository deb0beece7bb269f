"""Tables and lists of the plugin pages in the docs, made from hook specifications, contracts and their docstrings.

A page holds markers such as `<!-- fields: LossInput -->`; what follows a marker up to `<!-- end -->` is made here:

    hooks: KIND        the hooks of a kind, with their parameters
    fields: CLASS      the attributes of a class of `contracts`, from the section `Attributes` of its docstring
    methods: CLASS     its methods, with what they take, return and raise
    keys: KIND         the keys that the core reads from an entry of the kind

    python tests/support/contract_pages.py

rewrites the pages.
"""

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

from neuropbr_core import contracts, plugin, samples
from neuropbr_core.cli.option_rows import option_rows
from neuropbr_core.kinds import KINDS

PAGES = Path(__file__).parents[2] / "docs" / "plugins"
_BLOCK = re.compile(r"<!-- (?P<what>hooks|fields|methods|keys): (?P<name>\w+) -->\n(?:.*?<!-- end -->\n)?", re.DOTALL)
_SECTIONS = ("Attributes", "Args", "Returns", "Raises", "Yields", "Source")


def expand(text: str) -> str:
    """Make what belongs behind each marker of a page."""

    def block(match: re.Match[str]) -> str:
        body = {"hooks": hooks, "fields": fields, "methods": methods, "keys": keys}[match["what"]](match["name"])
        return f"<!-- {match['what']}: {match['name']} -->\n\n{body}\n\n<!-- end -->\n"

    return _BLOCK.sub(block, text)


def hooks(kind: str) -> str:
    """The hooks of a kind as a list."""
    lines = []
    for name, function in own_functions(KINDS[kind].spec):
        lines.append(f"- {signature(name, function)}: {sections(function)['']}")
    return wrapped(lines)


def methods(name: str) -> str:
    """The public methods of a class as a list."""
    lines = []
    for method, function in own_functions(find(name)):
        parts = sections(function)
        line = f"- {signature(method, function)}: {parts['']}"
        for argument, text in entries(parts.get("Args", "")).items():
            line += f" `{argument}`: {text}"
        if "Returns" in parts:
            line += f" Returns: {flat(parts['Returns'])}"
        for error, text in entries(parts.get("Raises", "")).items():
            line += f" Raises `{error}`: {text}"
        lines.append(line)
    return wrapped(lines)


def fields(name: str) -> str:
    """The attributes of a class as a table."""
    described = entries(sections(find(name)).get("Attributes", ""))
    rows = ["| attribute | what it is |", "| --- | --- |"]
    for attribute in field_names(name):
        text = described.get(attribute, "")
        rows.append(f"| `{attribute}` | {text} |")
    return "\n".join(rows)


def keys(kind: str) -> str:
    """The keys that the core reads from an entry of a kind, as a table."""
    rows = ["| key | default | what it does |", "| --- | --- | --- |"]
    for row in option_rows(KINDS[kind].entry_options):
        default = "null" if row.default is None else row.default
        rows.append(f"| `{row.name}` | {default} | {row.description} |")
    return "\n".join(rows)


def find(name: str) -> Any:
    """A class of the plugin API."""
    for module in (contracts, plugin, samples):
        if hasattr(module, name):
            return getattr(module, name)
    raise LookupError(name)


def field_names(name: str) -> list[str]:
    """The attributes that a class declares itself."""
    return [attribute for attribute in vars(find(name)).get("__annotations__", {}) if not attribute.startswith("_")]


def own_functions(cls: type) -> list[tuple[str, Any]]:
    """The public methods that a class defines itself, properties left out."""
    own = []
    for name, value in vars(cls).items():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and not name.startswith("_"):
            own.append((name, function))
    return own


def signature(name: str, function: Any) -> str:
    """How one calls a method."""
    parameters = [parameter for parameter in inspect.signature(function).parameters if parameter not in ("self", "cls")]
    return f"`{name}({', '.join(parameters)})`"


def sections(thing: Any) -> dict[str, str]:
    """A docstring by section; the text before the first one has an empty name."""
    parts: dict[str, list[str]] = {"": []}
    current = ""
    for line in inspect.cleandoc(thing.__doc__ or "").splitlines():
        if line.rstrip(":") in _SECTIONS and line.endswith(":"):
            current = line.rstrip(":")
            parts[current] = []
        else:
            parts[current].append(line)
    texts = {section: "\n".join(lines).strip("\n") for section, lines in parts.items()}
    texts[""] = flat(texts[""])
    return texts


def entries(section: str) -> dict[str, str]:
    """The entries `name: text` of a section, whose further lines are indented deeper."""
    found: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(section).splitlines():
        match = re.match(r"(\w+): (.*)", line)
        if match:
            name = match[1]
            found[name] = match[2]
        elif name:
            found[name] += " " + line.strip()
    return {key: flat(text) for key, text in found.items()}


def flat(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def wrapped(lines: list[str]) -> str:
    """A list with lines of at most 120 characters."""
    blocks = []
    for line in lines:
        blocks.append(textwrap.fill(line, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    return "\n".join(blocks)


if __name__ == "__main__":
    for page in PAGES.glob("*.md"):
        page.write_text(expand(page.read_text(encoding="utf-8")), encoding="utf-8")
