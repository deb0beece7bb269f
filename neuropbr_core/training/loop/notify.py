"""Tells observers what happens; one that fails is reported and left out from then on."""

from typing import Any

from neuropbr_core.contracts import Observer
from neuropbr_core.reporting import reporter


class Observers:
    """The observers of a run.

    Args:
        observers: By instance name.
    """

    def __init__(self, observers: dict[str, Observer]) -> None:
        self._observers = dict(observers)

    def tell(self, event: str, *details: Any) -> None:
        """Call the method `event` of every observer that still works."""
        for name, observer in list(self._observers.items()):
            try:
                getattr(observer, event)(*details)
            except Exception as error:  # an observer must not stop a run, whatever it does
                # Left out, because it would fail in every step, and a warning each time would hide all others.
                del self._observers[name]
                reporter().warning(
                    f"observer {name} failed in {event} and is left out from here on: {type(error).__name__}: {error}"
                )
