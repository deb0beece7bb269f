"""Every metric and picture of a run for TensorBoard."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neuropbr_core.plugin import hookimpl

if TYPE_CHECKING:
    from neuropbr_core.observers.tensorboard.events import TensorBoardObserver

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """TensorBoard has no options; `training.log_every_n_steps` and `log_images_every_n_epochs` say how often."""


@hookimpl
def observer_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_observer(options: Options, run_dir: Path) -> "TensorBoardObserver":  # noqa: ARG001 (the hook's signature)
    """Build the observer; it writes to `RUN/tensorboard`."""
    # Imported on use, so that listing components stays fast.
    from neuropbr_core.observers.tensorboard.events import TensorBoardObserver

    return TensorBoardObserver(run_dir)
