"""A recipe's values with their places: what reading and merging produce, and what problems point into."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from neuropbr_core.errors import Problem

Keys = tuple[str | int, ...]
"""Where a value stands: mapping keys and list positions from the document's top."""


def dotted(keys: Keys) -> str:
    """Write `keys` the way problems and `--set` do, such as `model.decoder.channels[1]`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


@dataclass(frozen=True)
class Place:
    """Where something was written.

    Attributes:
        file: The recipe's path, or the command-line flag.
        line: Line in the file, from 1; for a flag, the override's position among the overrides.
        column: Column in the line, from 1; for a flag, the column in its `key=value`.
        words: What the command line said, such as `--set training.epochs=3`; empty for a file.
    """

    file: str
    line: int
    column: int
    words: str = ""

    def problem(self, keys: Keys, message: str) -> Problem:
        """The problem `message` of the value at `keys`, placed here."""
        words = f" (from `{self.words}`)" if self.words else ""
        return Problem(self.file, self.line, self.column, dotted(keys), message + words)


@dataclass(frozen=True)
class Node:
    """One value of a recipe.

    Attributes:
        value: A scalar, a list of nodes, or a mapping from keys to nodes; never changed in place.
        place: Where the value was written; None for a default that nobody wrote.
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
        """The nodes on the way to `keys`, this one first; shorter than the way when nothing stands there."""
        nodes = [self]
        for key in keys:
            value = nodes[-1].value
            known = isinstance(value, dict) and key in value
            if not known and not (isinstance(value, list) and isinstance(key, int) and key < len(value)):
                break
            nodes.append(value[key])
        return nodes

    def at(self, keys: Keys) -> "Node | None":
        """The node at `keys`, or None."""
        nodes = self.trail(keys)
        return nodes[-1] if len(nodes) == len(keys) + 1 else None

    def files(self) -> "set[str]":
        """Names of all files that its values come from."""
        inner = self.value.values() if isinstance(self.value, dict) else self.value
        names = {self.place.file} if self.place and not self.place.words else set()
        return names.union(*(node.files() for node in inner)) if isinstance(self.value, dict | list) else names

    def mapping(self, keys: Keys) -> "dict[str, Node]":
        """The mapping at `keys`; empty when there is none."""
        node = self.at(keys)
        return node.value if node is not None and isinstance(node.value, dict) else {}

    def place_of(self, keys: Keys, *, key: bool = False) -> Place:
        """Place of the value at `keys` (with `key`, of its key), or of the nearest thing around it that was written.

        A mapping is pointed at by its key: its value starts at its first entry, which may be innocent.
        """
        nodes = self.trail(keys)
        exact = len(nodes) == len(keys) + 1
        for depth, node in enumerate(reversed(nodes)):
            by_key = key or depth > 0 or not exact or isinstance(node.value, dict)
            place = (node.key or node.place) if by_key else node.place
            if place is not None:
                return place
        return Place("", 1, 1)


def leaves(tree: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """The values of plain data that are no mappings (or are empty ones), each with its keys."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, (*keys, key))
    else:
        yield keys, tree
