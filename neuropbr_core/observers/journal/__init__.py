"""An observer that writes every metric of a run as JSON lines to `metrics.jsonl`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neuropbr_core.plugin import hookimpl

if TYPE_CHECKING:
    from neuropbr_core.observers.journal.journal import JournalObserver

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """The journal has no options."""


@hookimpl
def observer_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_observer(options: Options, run_dir: Path) -> "JournalObserver":  # noqa: ARG001 (the hook's signature)
    """Build the observer; it writes `RUN/metrics.jsonl`."""
    # Imported on use, so that listing components stays fast.
    from neuropbr_core.observers.journal.journal import JournalObserver

    return JournalObserver(run_dir)
