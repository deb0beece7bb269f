"""A resolved recipe as YAML text that reads back as the same data."""

import re
from collections.abc import Iterator
from typing import Any

from neuropbr_core.recipe.node import Keys
from neuropbr_core.recipe.source import plain_scalar

_PLAIN = re.compile(r"(?:[A-Za-z_]|\.{0,2}/)[\w./+-]*(?::[\w./+-]+)*\Z", re.ASCII)
_OTHER_READERS = {"y", "n", "yes", "no", "on", "off"}
"""Texts that YAML 1.1 readers, unlike this one, take for true or false."""


def scalar(value: str | float | bool | None) -> str:
    """Write one scalar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if _is_plain(value) else _quoted(value)
    return repr(value)


def flow(value: Any) -> str:
    """Write a value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def lines(tree: dict[str, Any], keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Write a mapping line by line, each with the keys of what it holds; sections of the top are set apart."""
    indent = "  " * len(keys)
    for key, value in tree.items():
        here = (*keys, key)
        if not keys and isinstance(value, dict):
            yield here, ""
        if isinstance(value, dict) and value:
            yield here, f"{indent}{scalar(key)}:"
            yield from lines(value, here)
        else:
            yield here, f"{indent}{scalar(key)}: {flow(value)}"


def dump(tree: dict[str, Any]) -> str:
    """Write a mapping as a YAML document."""
    return "".join(f"{line}\n" for _, line in lines(tree)).lstrip("\n")


def _is_plain(text: str) -> bool:
    return bool(_PLAIN.match(text)) and text.lower() not in _OTHER_READERS and plain_scalar(text) == text


def _quoted(text: str) -> str:
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\U{ord(char):08x}"
