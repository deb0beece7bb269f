"""An observer that shows a progress bar and epoch summaries on the console."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.observers.progress.console import ProgressObserver

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the console output."""

    bar: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="Progress bar; `auto` shows it on a terminal and writes one line an epoch elsewhere."),
    ] = "auto"


@hookimpl
def observer_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_observer(options: Options, run_dir: Path) -> "ProgressObserver":  # noqa: ARG001 (the hook's signature)
    """Build the observer; it writes to the console only."""
    # Imported on use, so that listing components stays fast.
    from neuropbr_core.observers.progress.console import ProgressObserver

    return ProgressObserver(options)
