"""YAML text into nodes, safely.

Read straight from the parser's events, so that nothing is built before it is checked: no tags, bounded size, depth and
alias expansion, no merge keys, and every key once. Scalars are those of YAML 1.2's core schema: `1e-4` is a number,
`yes` is text, `0o17` is octal and `017` is seventeen.
"""

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from neuropbr_core.errors import Problem, RecipeError
from neuropbr_core.recipe.node import Keys, Node, Place

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 20_000

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NON_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


def plain_scalar(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar by YAML 1.2's core schema.

    Raises:
        ValueError: A number that is not finite or does not fit into 64 bits; the message says so.
    """
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        return _integer(text)
    if _NON_FINITE.match(text):
        raise ValueError(f"found {text}; a number must be finite")
    if _FLOAT.match(text):
        return _finite(text)
    return text


def read_file(path: Path, shown: str) -> str:
    """The text of a recipe file.

    Args:
        path: The file.
        shown: How problems name it.

    Raises:
        RecipeError: It cannot be read, is larger than 1 MiB, or is not UTF-8.
    """
    place = Place(shown, 1, 1)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError([place.problem((), f"cannot be read: {error.strerror or error}")]) from None
    if len(data) > MAX_BYTES:
        raise RecipeError([place.problem((), "is larger than 1 MiB; a recipe is a few kilobytes of YAML")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Place(shown, data.count(b"\n", 0, error.start) + 1, 1)
        raise RecipeError([place.problem((), "is not UTF-8 text; save it as UTF-8")]) from None


def parse(text: str, file: str) -> tuple[Node, list[Problem]]:
    """Parse one YAML document.

    Args:
        text: The document.
        file: How problems name it.

    Returns:
        The document (a null without a place when it is empty), and the problems that do not hinder reading on:
        keys given twice and numbers out of range.

    Raises:
        RecipeError: The text is not YAML, or uses what recipes do not allow.
    """
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        builder.fail(_place(file, error.problem_mark), f"is not YAML: {error.problem or error.context}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        builder.fail(Place(file, line, 1), f"is not YAML: character U+{ord(text[error.position]):04X} is not allowed")
    return builder.root or Node(None), builder.problems


@dataclass
class _Open:
    """A list or mapping whose end has not come yet."""

    keys: Keys
    place: Place
    anchor: str | None
    start: int
    items: Any
    key: tuple[str, Place] | None = None


@dataclass
class _Builder:
    """Builds nodes from parser events."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    root: Node | None = None
    documents: int = 0
    count: int = 0
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)

    def take(self, event: yaml.Event) -> None:
        """Handle one event."""
        place = _place(self.file, event.start_mark)
        if isinstance(event, yaml.DocumentStartEvent):
            self._document(place)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, place)
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event.tag, place)
            self._scalar(event, place)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._refuse_tag(event.tag, place)
            self._open(event, place)

    def fail(self, place: Place, message: str) -> None:
        """Give up with everything found so far."""
        raise RecipeError([*self.problems, place.problem((), message)]) from None

    def _document(self, place: Place) -> None:
        self.documents += 1
        if self.documents > 1:
            self.fail(place, "a second document starts here; a recipe is one document")

    def _refuse_tag(self, tag: str | None, place: Place) -> None:
        if tag is not None:
            self.fail(place, f"tags are not allowed in recipes; remove `{tag}`")

    def _open(self, event: yaml.CollectionStartEvent, place: Place) -> None:
        if self._wants_key():
            self.fail(place, "a key must be text, not a list or a mapping")
        if len(self.stack) >= MAX_DEPTH:
            self.fail(place, f"is nested more than {MAX_DEPTH} deep")
        items: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
        self.stack.append(_Open(self._keys(), place, event.anchor, self.count, items))

    def _close(self) -> None:
        done = self.stack.pop()
        self._add(Node(done.items, done.place), done.anchor, self.count - done.start)

    def _alias(self, event: yaml.AliasEvent, place: Place) -> None:
        if self._wants_key():
            self.fail(place, "a key must be text, not an alias")
        name = str(event.anchor)
        if name not in self.anchors:
            self.fail(place, f"`*{name}` is used before its `&{name}` is complete")
        node, size = self.anchors[name]
        self.count += size
        self._add(node, None, size)

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> None:
        if self._wants_key():
            self._take_key(event, place)
            return
        value: Any = event.value
        if event.style is None:
            try:
                value = plain_scalar(event.value)
            except ValueError as error:
                self.problems.append(place.problem(self._keys(), str(error)))
                value = 0
        self._add(Node(value, place), event.anchor, 0)

    def _take_key(self, event: yaml.ScalarEvent, place: Place) -> None:
        mapping = self.stack[-1]
        if event.value == "<<" and event.style is None:
            self.fail(place, "merge keys are not read; use `extends`")
        if event.anchor is not None:
            self.fail(place, "a key cannot have an anchor")
        if event.value in mapping.items:
            first = mapping.items[event.value].key.line
            self.problems.append(
                place.problem((*mapping.keys, event.value), f"is given twice, first in line {first}; keep one")
            )
        mapping.key = (event.value, place)

    def _add(self, node: Node, anchor: str | None, size: int) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            self.fail(node.place or Place(self.file, 1, 1), f"has more than {MAX_VALUES} values, aliases expanded")
        if anchor is not None:
            self.anchors[anchor] = (node, size)
        if not self.stack:
            self.root = node
        elif (mapping := self.stack[-1]).key is not None:
            name, place = mapping.key
            mapping.key = None
            mapping.items.setdefault(name, replace(node, key=place))
        else:
            mapping.items.append(node)

    def _wants_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].items, dict) and self.stack[-1].key is None

    def _keys(self) -> Keys:
        if not self.stack:
            return ()
        outer = self.stack[-1]
        return (*outer.keys, outer.key[0] if outer.key else len(outer.items))


def _place(file: str, mark: Any) -> Place:
    return Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)


def _integer(text: str) -> int:
    digits = len(text.lstrip("-+0ox")) if text[:2] in ("0o", "0x") else len(text.lstrip("-+0"))
    value = int(text, 0 if text[:2] in ("0o", "0x") else 10) if digits <= 22 else None
    if value is None or not -(2**63) <= value < 2**63:
        raise ValueError(f"found {text[:24]}{'…' if len(text) > 24 else ''}; an integer must fit into 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"found {text}; a number must be finite")
    return value
