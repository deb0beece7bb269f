"""Overrides: `key.path=value`, given on the command line on top of a recipe."""

from typing import Self

from neuropbr_core.errors import Problem, RecipeError
from neuropbr_core.recipe.node import Node, Place
from neuropbr_core.recipe.source import parse

SET = "--set"


class Override(str):
    """The text `key.path=value`, together with what the user wrote to get it.

    A plain `str` is an override too: it counts as given with `--set`.

    Attributes:
        words: The words on the command line, such as `--data ./data`; problems and provenance quote them.
    """

    __slots__ = ("words",)
    words: str

    def __new__(cls, text: str, words: str) -> Self:
        """Keep `words` beside `text`."""
        override = super().__new__(cls, text)
        override.words = words
        return override

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """Let an override be pickled, as launchers of several processes do."""
        return type(self), (str(self), self.words)


def parse_override(text: str, position: int) -> tuple[Node, list[Problem]]:
    """Turn an override into a recipe that says only that.

    Args:
        text: `key.path=value`; the value is YAML.
        position: Its position among the overrides, from 1.

    Returns:
        The nested mapping, and the problems that do not hinder merging it.

    Raises:
        RecipeError: It is not of that form, or its value is not YAML.
    """
    words = text.words if isinstance(text, Override) else f"{SET} {text}"
    flag = words.split(maxsplit=1)[0]
    place = Place(flag, position, 1, words)
    path, equals, value = text.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        raise RecipeError([place.problem((), "write KEY=VALUE, with a dotted key such as `training.epochs=20`")])
    if keys[0] == "extends":
        raise RecipeError([place.problem(("extends",), "can only stand in a recipe file")])
    node, problems = _value(value, place, keys, len(path) + 2)
    for key in reversed(keys):
        node = Node({key: Node(node.value, node.place, place)}, place)
    return node, problems


def _value(text: str, place: Place, keys: tuple[str, ...], column: int) -> tuple[Node, list[Problem]]:
    """Parse the value; everything in it is placed at the override."""
    try:
        node, problems = parse(text, place.file)
    except RecipeError as error:
        first = error.problems[0]
        at = Place(place.file, place.line, column + first.column - 1, place.words)
        raise RecipeError([at.problem(keys, first.message)]) from None
    return _placed(node, place), [place.problem(keys, problem.message) for problem in problems]


def _placed(node: Node, place: Place) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _placed(child, place) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_placed(child, place) for child in value]
    return Node(value, place, place)
