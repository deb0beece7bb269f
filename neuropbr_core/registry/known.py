"""Components of packages that are not installed here, but that are known to the core: a list that ships with it.

Authors ask for a line in `known.json`. An error about an unknown name then says which package has the name.
"""

from pathlib import Path

import msgspec

from neuropbr_core.registry.names import normalized

_LIST = Path(__file__).parent / "known.json"


class KnownComponent(msgspec.Struct, frozen=True):
    """A component of a published package.

    Attributes:
        kind: Kind of component.
        name: Its name.
        distribution: The package that offers it.
        summary: What it is, in a few words.
        install: The command that installs the package.
    """

    kind: str
    name: str
    distribution: str
    summary: str
    install: str


def known_components() -> list[KnownComponent]:
    """The components of the list."""
    return msgspec.json.decode(_LIST.read_bytes(), type=list[KnownComponent])


def who_offers(kind: str, use: str) -> str:
    """Which packages are known to offer a component, as sentences that end a message; empty when none is known.

    Args:
        kind: Kind of component.
        use: `name` or `distribution:name`.
    """
    distribution, _, name = use.rpartition(":")
    sentences = []
    for component in known_components():
        same_name = normalized(component.name) == normalized(name)
        if component.kind == kind and same_name and normalized(distribution) in ("", component.distribution):
            sentences.append(
                f"The package {component.distribution} offers {kind}/{component.name} ({component.summary}): "
                f"{component.install}. "
            )
    return "".join(sentences)
