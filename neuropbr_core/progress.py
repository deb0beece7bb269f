"""How long work tells how far it is."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Passes items through and shows how many there have been."""

    def __call__(self, items: Iterable[T], total: int, what: str) -> Iterable[T]:
        """Return `items`; `what` says what happens to each."""


def silent(items: Iterable[T], total: int, what: str) -> Iterable[T]:  # noqa: ARG001
    """Show nothing."""
    return items


def bar(items: Iterable[T], total: int, what: str) -> Iterable[T]:
    """Show a progress bar on standard error, when that is a terminal."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, leave=False, dynamic_ncols=True, disable=None)
