"""Components as the metadata of installed distributions declares them; nothing is imported."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from neuropbr_core.kinds import KINDS
from neuropbr_core.registry.source import read_thin_module


@dataclass(frozen=True, order=True)
class Entry:
    """One component that an installed distribution declares.

    Attributes:
        kind: Kind of component, a key of `KINDS`.
        name: Entry point's name: what recipes write.
        distribution: Name of the distribution, normalised.
        version: Version of the distribution.
        group: Entry-point group.
        value: Entry point's value: the thin module, as in `acme_convnext`.
    """

    kind: str
    name: str
    distribution: str
    version: str
    group: str
    value: str

    @property
    def qualified(self) -> str:
        """The name that stays unique when another distribution offers the same one: `distribution:name`."""
        return f"{self.distribution}:{self.name}"

    @property
    def module(self) -> str:
        """Dotted name of the thin module."""
        return re.split(r"[:\[\s]", self.value, maxsplit=1)[0]

    def docstring(self) -> str | None:
        """Docstring of the thin module, read from its source; None when there is no source or no docstring."""
        thin = read_thin_module(self.module)
        return thin.docstring if thin else None

    def summary(self) -> str | None:
        """First line of the thin module's docstring, read without importing anything."""
        lines = (self.docstring() or "").strip().splitlines()
        return lines[0].strip() if lines else None

    def __str__(self) -> str:
        """How messages name it."""
        return f"{self.kind}/{self.name} of {self.distribution} {self.version}"


def normalized(name: str) -> str:
    """Normalise a distribution's name.

    Source: the name normalisation of PEP 503.
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def scan() -> tuple[Entry, ...]:
    """Read the components that the distributions on `sys.path` declare.

    A distribution that is on the path twice counts once, as the copy that an import would take. One with damaged
    metadata is passed over.

    Returns:
        The entries, sorted by kind, name and distribution.
    """
    names = {name for found in metadata.distributions() if (name := _name_of_provider(found))}
    return tuple(sorted({entry for name in names for entry in _entries_of(name)}))


def provenance(entry: Entry) -> dict[str, str]:
    """Return what a run records of a component that it used."""
    return {
        "kind": entry.kind,
        "name": entry.name,
        "distribution": entry.distribution,
        "version": entry.version,
        "entry_point": entry.value,
    }


_KIND_OF_GROUP = {kind.group: kind.name for kind in KINDS.values()}


def _name_of_provider(distribution: metadata.Distribution) -> str | None:
    """Name of a distribution that declares components; reads the name only then, for parsing metadata is slow."""
    try:
        text = distribution.read_text("entry_points.txt") or ""
        return str(distribution.metadata["Name"]) if any(group in text for group in _KIND_OF_GROUP) else None
    except Exception:
        return None


def _entries_of(name: str) -> Iterator[Entry]:
    """Entries of the first distribution of that name on the path: a later copy is shadowed."""
    try:
        distribution = metadata.distribution(name)
        version, points = str(distribution.version), tuple(distribution.entry_points)
    except Exception:
        return
    for point in points:
        if kind := _KIND_OF_GROUP.get(point.group):
            yield Entry(kind, point.name, normalized(name), version, point.group, point.value)
