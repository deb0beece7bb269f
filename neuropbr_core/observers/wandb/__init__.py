"""An observer that sends every metric and picture of a run to Weights & Biases, online or offline."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.observers.wandb.history import WandbObserver

NEUROPBR_API = 1
NEUROPBR_REQUIRES = {"wandb": "neuropbr[wandb]"}


@dataclass(frozen=True)
class Options:
    """Where and how the run appears on Weights & Biases."""

    project: Annotated[str, Meta(min_length=1, description="Project that the run belongs to.")] = "neuropbr"
    entity: Annotated[str | None, Meta(description="User or team; default: that of the account.")] = None
    mode: Annotated[
        Literal["online", "offline", "disabled"] | None,
        Meta(
            description="`offline` writes `RUN/wandb/` only, for `wandb sync` later; default: what the environment "
            "variable `WANDB_MODE` says, else `online`."
        ),
    ] = None
    name: Annotated[str | None, Meta(description="Name that is shown; default: the run's.")] = None
    group: Annotated[str | None, Meta(description="Group that the run is shown in.")] = None
    tags: Annotated[tuple[str, ...], Meta(description="Tags of the run.")] = ()
    notes: Annotated[str | None, Meta(description="A longer description of the run.")] = None
    images: Annotated[bool, Meta(description="Send pictures of validations too.")] = True


@hookimpl
def observer_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_observer(options: Options, run_dir: Path) -> "WandbObserver":
    """Build the observer; it writes `RUN/wandb.json` and to `RUN/wandb`."""
    # Imported on use, so that listing components stays fast.
    from neuropbr_core.observers.wandb.history import WandbObserver

    return WandbObserver(options, run_dir)
