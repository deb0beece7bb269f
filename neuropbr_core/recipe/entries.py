"""Entries of one section of components, checked without the rest of a recipe.

For commands that name components themselves, such as `neuropbr export --to onnx --option opset=20`: mistakes are
answered as they are in a recipe, with what the user wrote, what is allowed and the nearest name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from neuropbr_core.errors import RecipeError
from neuropbr_core.kinds import Kind
from neuropbr_core.recipe.check import check_entries
from neuropbr_core.recipe.merge import merge_overrides, read_tree
from neuropbr_core.recipe.node import Node, Place
from neuropbr_core.registry import Chosen, default_registry

if TYPE_CHECKING:
    from neuropbr_core.registry import Registry


def load_entries(
    kind: Kind,
    names: Mapping[str, str],
    overrides: Sequence[str],
    registry: "Registry | None" = None,
    base: Path | None = None,
) -> dict[str, Chosen]:
    """Check entries of components.

    Args:
        kind: A kind whose section is a mapping of components.
        names: Names of the entries, each with the words that the user wrote to name it. An entry that `base` does not
            have is of the component of that name.
        overrides: `section.name.key=value` texts, as after `--set`.
        registry: Where components come from; default: the installed ones.
        base: A recipe file whose entries of these names are started from.

    Returns:
        The components by name.

    Raises:
        RecipeError: Something is wrong with them; all problems at once.
    """
    inherited = read_tree(base, (), _as_written)[0].mapping(kind.section) if base is not None else {}
    root = Node({name: inherited[name] if name in inherited else _named(words) for name, words in names.items()})
    for key in reversed(kind.section):
        root = Node({key: root})
    root, problems = merge_overrides(root, overrides, _as_written)
    root = _placed(root, kind.section, {name: words for name, words in names.items() if name not in inherited})
    checked = check_entries(root, registry or default_registry(), problems)
    if checked.problems:
        raise RecipeError(checked.problems)
    return {name: checked.components[(*kind.section, name)] for name in names}


def _as_written(kind: Kind, use: str) -> str:  # noqa: ARG001 - a `Qualify` of its own names
    return use


def _placed(root: Node, section: tuple[str, ...], names: Mapping[str, str]) -> Node:
    """The tree with these entries placed at the words that name them, not at those that last changed them."""
    if section:
        inner = _placed(root.value[section[0]], section[1:], names)
        return replace(root, value={**root.value, section[0]: inner})
    own = {name: replace(root.value[name], key=_named(words).key) for name, words in names.items()}
    return replace(root, value={**root.value, **own})


def _named(words: str) -> Node:
    """An entry that says nothing, placed at the words that name it."""
    place = Place(words.split(maxsplit=1)[0], 1, 1, words)
    return Node({}, place, place)
