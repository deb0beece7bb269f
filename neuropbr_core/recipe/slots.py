"""Where components stand in a recipe, as the table of kinds says."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.recipe.node import Keys, Node

USE = "use"
"""The key of an entry that names its component."""


@dataclass(frozen=True)
class Slot:
    """One component that a recipe names.

    Attributes:
        kind: Kind of component.
        keys: Where its entry stands.
        use: The component's name as the recipe writes it.
        explicit: Whether the entry says `use`; otherwise its key is the name.
    """

    kind: Kind
    keys: Keys
    use: str
    explicit: bool

    @property
    def name(self) -> str:
        """Instance name: the entry's key."""
        return str(self.keys[-1])

    @property
    def use_keys(self) -> Keys:
        """Where the component is named."""
        return (*self.keys, USE) if self.explicit else self.keys


def kind_at(keys: Keys) -> Kind | None:
    """The kind of component whose entry stands at `keys`, or None."""
    for kind in KINDS.values():
        if kind.section and kind.section == (keys[:-1] if kind.many else keys):
            return kind
    return None


def entry_keys(kind: Kind) -> tuple[str, ...]:
    """Keys of an entry that are the recipe's own, so that no component may have an option of that name."""
    return (USE, *(field.name for field in fields(kind.entry_options)))


def slots(root: Node) -> Iterator[Slot]:
    """The components that a recipe names, in the order of the kinds. Entries without a usable name are left out."""
    for kind in KINDS.values():
        if not kind.section:
            continue
        names = [(*kind.section, name) for name in root.mapping(kind.section)] if kind.many else [kind.section]
        for keys in names:
            if (slot := _slot(kind, keys, root)) is not None:
                yield slot


def entry_use(kind: Kind, keys: Keys, entry: Node) -> str | None:
    """The component that an entry names: its `use`, or its key in a mapping of components."""
    if not isinstance(entry.value, dict):
        return None
    if USE in entry.value:
        use = entry.value[USE].value
        return use if isinstance(use, str) else None
    return str(keys[-1]) if kind.many else None


def _slot(kind: Kind, keys: Keys, root: Node) -> Slot | None:
    entry = root.at(keys)
    if entry is None or (use := entry_use(kind, keys, entry)) is None:
        return None
    return Slot(kind, keys, use, USE in entry.value)
