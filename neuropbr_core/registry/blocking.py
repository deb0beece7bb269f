"""Keeps components out by name, before anything is imported."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from neuropbr_core.registry.entries import Entry, normalized

VARIABLE = "NEUROPBR_BLOCK_PLUGINS"
"""Environment variable with names to block, separated by commas."""


@dataclass(frozen=True)
class Block:
    """A request to keep components out.

    Attributes:
        text: `name`, `kind/name`, `distribution:name` or `kind/distribution:name`, as it was written; compared
            after normalisation (case, `-`, `_` and `.` do not matter).
        origin: Where it was written, for messages.
    """

    text: str
    origin: str

    def matches(self, entry: Entry) -> bool:
        """Whether `entry` is kept out by this."""
        kind, _, rest = self.text.rpartition("/")
        distribution, _, name = rest.rpartition(":")
        return (
            normalized(name) == normalized(entry.name)
            and normalized(kind) in ("", entry.kind)
            and normalized(distribution) in ("", entry.distribution)
        )

    def __str__(self) -> str:
        """How messages name it."""
        return f"{self.text!r} in {self.origin}"


def requested(block: Iterable[str]) -> tuple[Block, ...]:
    """Join the blocks of the command line (or caller) and of the environment.

    Args:
        block: Names to block beside those in `NEUROPBR_BLOCK_PLUGINS`; each may hold several, separated by commas.
    """
    given = [(text, "--block") for text in block]
    given.append((os.environ.get(VARIABLE, ""), VARIABLE))
    return tuple(Block(name.strip(), origin) for text, origin in given for name in text.split(",") if name.strip())
