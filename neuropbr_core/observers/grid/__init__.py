"""An observer that writes the comparison pictures of each validation as PNG files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neuropbr_core.plugin import hookimpl

if TYPE_CHECKING:
    from neuropbr_core.observers.grid.pictures import GridObserver

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """The grid has no options; `training.log_images_every_n_epochs` says how often pictures are drawn."""


@hookimpl
def observer_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_observer(options: Options, run_dir: Path) -> "GridObserver":  # noqa: ARG001 (the hook's signature)
    """Build the observer; it writes to `RUN/images`."""
    # Imported on use, so that listing components stays fast.
    from neuropbr_core.observers.grid.pictures import GridObserver

    return GridObserver(run_dir)
