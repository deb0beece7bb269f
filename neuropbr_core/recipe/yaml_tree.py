"""YAML and trees: text becomes nodes that remember their places, and plain data become text again.

Text is read straight from the parser's events, so that nothing is built before it is checked: no tags, bounded size,
depth and alias expansion, no merge keys, and every key once. Scalars are those of YAML 1.2's core schema: `1e-4` is a
number, `yes` is text, `0o17` is octal and `017` is seventeen.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from neuropbr_core.errors import Problem, RecipeError
from neuropbr_core.reading import open_bytes

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 20_000
"""Limits of one document. Real recipes have a few hundred values; aliases can expand a small file without limit."""

Keys = tuple[str | int, ...]
"""The path of a value: mapping keys and list positions from the document's top."""


def dotted(keys: Keys) -> str:
    """Write `keys` the way problems and `--set` do, such as `model.decoder.channels[1]`."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += f".{key}"
    return text.removeprefix(".")


@dataclass(frozen=True)
class Place:
    """The place where the user wrote something.

    Attributes:
        file: The recipe's path, or the command-line flag.
        line: Line in the file, from 1; for a flag, the override's position among the overrides.
        column: Column in the line, from 1; for a flag, the column in its `key=value`.
        words: The words of the command line, such as `--set training.epochs=3`; empty for a file.
    """

    file: str
    line: int
    column: int
    words: str = ""

    def problem(self, keys: Keys, message: str) -> Problem:
        """The problem `message` of the value at `keys`, placed here."""
        if self.words:
            message += f" (from `{self.words}`)"
        return Problem(self.file, self.line, self.column, dotted(keys), message)


@dataclass(frozen=True)
class Node:
    """One value of a recipe.

    Attributes:
        value: A scalar, a list of nodes, or a mapping from keys to nodes; never changed in place.
        place: Where the value was written; None for a default that no file states.
        key: Where its key was written; None in lists, at the top, and for defaults.
    """

    value: Any
    place: Place | None = None
    key: Place | None = None

    def plain(self) -> Any:
        """The value as plain data."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def trail(self, keys: Keys) -> "list[Node]":
        """The nodes on the way to `keys`, this one first; shorter than `keys` when there is no value."""
        nodes = [self]
        for key in keys:
            value = nodes[-1].value
            in_mapping = isinstance(value, dict) and key in value
            in_list = isinstance(value, list) and isinstance(key, int) and key < len(value)
            # A key that leads nowhere ends the trail: callers then point at the nearest thing that exists.
            if not in_mapping and not in_list:
                break
            nodes.append(value[key])
        return nodes

    def at(self, keys: Keys) -> "Node | None":
        """The node at `keys`, or None."""
        nodes = self.trail(keys)
        if len(nodes) < len(keys) + 1:
            return None
        return nodes[-1]

    def files(self) -> "set[str]":
        """Names of all files that its values come from."""
        # Places with words are on the command line, which is no file.
        names = set()
        if self.place and not self.place.words:
            names.add(self.place.file)
        inner = self.value
        if isinstance(inner, dict):
            inner = inner.values()
        if isinstance(self.value, dict | list):
            for node in inner:
                names |= node.files()
        return names

    def mapping(self, keys: Keys) -> "dict[str, Node]":
        """The mapping at `keys`; empty when there is none."""
        node = self.at(keys)
        if node is None or not isinstance(node.value, dict):
            return {}
        return node.value

    def place_of(self, keys: Keys, *, key: bool = False) -> Place:
        """Place of the value at `keys` (with `key`, of its key), or of the nearest thing around it that was written.

        A mapping is pointed at by its key: its value starts at its first entry, which may be correct.
        """
        nodes = self.trail(keys)
        # From the value outwards: defaults have no place, and the section around them may have none either.
        exact = len(nodes) == len(keys) + 1
        for depth, node in enumerate(reversed(nodes)):
            place = node.place
            if key or depth > 0 or not exact or isinstance(node.value, dict):
                place = node.key or node.place
            if place is not None:
                return place
        return Place("", 1, 1)


def leaves(tree: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Walk over the values of plain data that are no mappings (or are empty ones), each with its keys."""
    # An empty mapping is a value too: a recipe that sets one differs from a recipe that leaves it out.
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, (*keys, key))
    else:
        yield keys, tree


# The core schema's patterns, tried from null to float, since a text such as `17` fits the later ones too. They end with
# `\Z` because `$` would also match before a line break at the end.
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
    # Integers come before numbers with a point: every integer also fits the pattern of a float.
    if _INT.match(text):
        return _integer(text)
    if _NON_FINITE.match(text):
        raise ValueError(f"found {text}; a number must be finite")
    if _FLOAT.match(text):
        number = float(text)
        # `1e999` is a number by its form, and infinite by its value.
        if not math.isfinite(number):
            raise ValueError(f"found {text}; a number must be finite")
        return number
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
        with open_bytes(path) as file:
            data = file.read(MAX_BYTES + 1)  # a byte more than allowed shows that the file is too large
    except OSError as error:
        raise RecipeError([place.problem((), f"cannot be read: {error.strerror or error}")]) from None
    if len(data) > MAX_BYTES:
        raise RecipeError([place.problem((), "is larger than 1 MiB; a recipe is a few kilobytes of YAML")])
    try:
        # Editors of Windows write a byte-order mark, which `-sig` removes.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Lines can be counted in bytes, since no other UTF-8 character contains the byte of a line break.
        place = Place(shown, data.count(b"\n", 0, error.start) + 1, 1)
        raise RecipeError([place.problem((), "is not UTF-8 text; save it as UTF-8")]) from None


def parse(text: str, file: str) -> tuple[Node, list[Problem]]:
    """Parse one YAML document.

    Args:
        text: The document.
        file: How problems name it.

    Returns:
        The document (a null without a place when it is empty), and the problems after which reading can go on:
        repeated keys and numbers out of range.

    Raises:
        RecipeError: The text is not YAML, or uses what recipes do not allow.
    """
    # `SafeLoader` only scans and parses here; its constructors, which know YAML 1.1 and tags, are never called.
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
            self.documents += 1
            if self.documents > 1:
                self.fail(place, "a second document starts here; a recipe is one document")
        elif isinstance(event, yaml.CollectionEndEvent):
            opened = self.stack.pop()
            # The size counts everything inside, so that an alias of this value is charged for all of it.
            self._add(Node(opened.items, opened.place), opened.anchor, self.count - opened.start)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, place)
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event.tag, place)
            self._scalar(event, place)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._refuse_tag(event.tag, place)
            self._open(event, place)

    def fail(self, place: Place, message: str) -> None:
        """Stop, and report this problem with all earlier ones."""
        raise RecipeError([*self.problems, place.problem((), message)]) from None

    def _refuse_tag(self, tag: str | None, place: Place) -> None:
        if tag is not None:
            self.fail(place, f"tags are not allowed in recipes; remove `{tag}`")

    def _open(self, event: yaml.CollectionStartEvent, place: Place) -> None:
        # YAML allows these as keys, and plain data in Python do not.
        if self._wants_key():
            self.fail(place, "a key must be text, not a list or a mapping")
        # Checks and dumps recurse into values, so the depth bounds their use of Python's stack.
        if len(self.stack) >= MAX_DEPTH:
            self.fail(place, f"is nested more than {MAX_DEPTH} deep")
        items: Any = {}
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
        self.stack.append(_Open(self._keys(), place, event.anchor, self.count, items))

    def _alias(self, event: yaml.AliasEvent, place: Place) -> None:
        if self._wants_key():
            self.fail(place, "a key must be text, not an alias")
        name = str(event.anchor)
        # An anchor is noted when its value ends, so a value cannot contain itself.
        if name not in self.anchors:
            self.fail(place, f"`*{name}` is used before its `&{name}` is complete")
        node, size = self.anchors[name]
        # An alias counts as often as it is used, so that nested aliases cannot grow beyond the limit.
        self.count += size
        self._add(node, None, size)

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> None:
        if self._wants_key():
            mapping = self.stack[-1]
            # YAML 1.2 has no merge keys; taken for text, `<<` would be reported as an unknown key, which helps nobody.
            if event.value == "<<" and event.style is None:
                self.fail(place, "merge keys are not read; use `extends`")
            if event.anchor is not None:
                self.fail(place, "a key cannot have an anchor")
            if event.value in mapping.items:
                # Reading goes on, so that other problems of the file are reported with this one.
                first = mapping.items[event.value].key.line
                keys = (*mapping.keys, event.value)
                self.problems.append(place.problem(keys, f"appears more than once, first in line {first}; keep one"))
            mapping.key = (event.value, place)
            return
        value: Any = event.value
        # A scalar without a style is written plainly; one in quotes is text whatever it looks like.
        if event.style is None:
            try:
                value = plain_scalar(event.value)
            except ValueError as error:
                self.problems.append(place.problem(self._keys(), str(error)))
                value = 0  # any number will do: the place has its problem already, and reading goes on
        elif "\0" in value:  # functions of the system would refuse it in words of their own
            self.problems.append(place.problem(self._keys(), "holds a zero byte (\\0), which no path or name has"))
            value = value.replace("\0", "")
        self._add(Node(value, place), event.anchor, 0)

    def _add(self, node: Node, anchor: str | None, size: int) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            self.fail(node.place or Place(self.file, 1, 1), f"has more than {MAX_VALUES} values, aliases expanded")
        if anchor is not None:
            self.anchors[anchor] = (node, size)
        if not self.stack:
            self.root = node
            return
        outer = self.stack[-1]
        if outer.key is None:
            outer.items.append(node)
            return
        name, place = outer.key
        # The next scalar of this mapping is a key again.
        outer.key = None
        # Of a repeated key the first value stays: its problem names the later place.
        outer.items.setdefault(name, replace(node, key=place))

    def _wants_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].items, dict) and self.stack[-1].key is None

    def _keys(self) -> Keys:
        if not self.stack:
            return ()
        outer = self.stack[-1]
        if outer.key:
            return (*outer.keys, outer.key[0])
        # In a list the next value gets the position that equals the number of items so far.
        return (*outer.keys, len(outer.items))


def _place(file: str, mark: Any) -> Place:
    # Some errors of the scanner have no mark; they are then placed at the file's start.
    if not mark:
        return Place(file, 1, 1)
    return Place(file, mark.line + 1, mark.column + 1)  # PyYAML counts from 0, editors from 1


def _integer(text: str) -> int:
    base = 10
    digits = text.lstrip("-+0")
    # With base 0 Python reads the prefix itself; without one, leading zeros are decimal, as in YAML 1.2.
    if text[:2] in ("0o", "0x"):
        base = 0
        digits = text.lstrip("-+0ox")
    # 64 bits have at most 22 octal digits. `int` refuses more than 4,300 digits with an error of its own, and is slow
    # before that, so longer texts are not converted.
    if len(digits) <= 22:
        value = int(text, base)
        if -(2**63) <= value < 2**63:
            return value
    shown = text
    if len(text) > 24:
        shown = f"{text[:24]}…"
    raise ValueError(f"found {shown}; an integer must fit into 64 bits")


# Words, paths and `distribution:name`. What may need quotes in some place of YAML gets them in all: it costs nothing.
_PLAIN = re.compile(r"(?:[A-Za-z_]|\.{0,2}/)[\w./+-]*(?::[\w./+-]+)*\Z", re.ASCII)
_OTHER_READERS = {"y", "n", "yes", "no", "on", "off"}
"""Texts that YAML 1.1 readers, unlike this one, take for true or false."""


def scalar(value: str | float | bool | None) -> str:
    """Write one scalar."""
    if value is None:
        return "null"
    # A bool is an int too, so it comes first.
    if isinstance(value, bool):
        return str(value).lower()
    # `repr` gives the shortest digits from which the same float is read again.
    if not isinstance(value, str):
        return repr(value)
    # Plain only where every reader takes it for this very text: not for a number, a boolean or null.
    if _PLAIN.match(value) and value.lower() not in _OTHER_READERS and plain_scalar(value) == value:
        return value
    return '"' + "".join(map(_character, value)) + '"'


def flow(value: Any) -> str:
    """Write a value on one line."""
    if isinstance(value, dict):
        items = ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items())
        return f"{{{items}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    return scalar(value)


def lines(tree: dict[str, Any], keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Write a mapping line by line, each with the keys of its value; an empty line precedes each top-level section."""
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
    # The first section has an empty line before it too, which nobody wants at the top of a file.
    text = "\n".join(line for _, line in lines(tree))
    if not text:
        return ""
    return text.lstrip("\n") + "\n"


def _character(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    # Unprintable characters are escaped: an editor would not show them, and parsers refuse some.
    if ord(char) < 256:
        return f"\\x{ord(char):02x}"
    return f"\\U{ord(char):08x}"
