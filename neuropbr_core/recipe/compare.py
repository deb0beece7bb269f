"""How two resolved recipes differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from neuropbr_core.recipe.merge import OWN
from neuropbr_core.recipe.yaml_tree import Keys, dotted, flow


class _Absent:
    """Stands for a value that one of the recipes does not have."""


ABSENT = _Absent()


@dataclass(frozen=True)
class Difference:
    """One value that differs, or one whole entry that only one recipe has.

    Attributes:
        keys: Where it stands.
        old: The value in the first recipe, or `ABSENT`.
        new: The value in the second.
    """

    keys: Keys
    old: Any
    new: Any

    def __str__(self) -> str:
        """The form `path: old -> new`."""
        return f"{dotted(self.keys)}: {_shown(self.old)} -> {_shown(self.new)}"


def differences(old: dict[str, Any], new: dict[str, Any], keys: Keys = ()) -> Iterator[Difference]:
    """The differences between two resolved recipes, their names and descriptions aside, in the first one's order."""
    # A dict keeps the order of first appearance, where a set would shuffle the lines from run to run.
    for key in dict.fromkeys([*old, *new]):
        here = (*keys, key)
        # Names and descriptions say nothing about what a recipe does.
        if not keys and key in OWN:
            continue
        # `ABSENT` and not None, because null is a value that a recipe may have.
        before = old.get(key, ABSENT)
        after = new.get(key, ABSENT)
        # A whole entry that only one recipe has is one difference, and not one for each of its options.
        if isinstance(before, dict) and isinstance(after, dict):
            yield from differences(before, after, here)
        elif before != after:
            yield Difference(here, before, after)


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "(absent)"
    return flow(value)
