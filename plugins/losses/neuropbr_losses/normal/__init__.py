"""Angular error of normals."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Loss, LossSetup

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """How the angle between predicted and true normal is penalised."""

    form: Annotated[
        Literal["cosine", "angle"],
        Meta(
            description="`cosine`: 1 - cos(angle), gentle on small errors; `angle`: the angle in radians, which weighs "
            "small errors more."
        ),
    ] = "cosine"


@hookimpl
def loss_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_loss(options: Options, setup: "LossSetup") -> "Loss":
    """Build the loss."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_losses.normal.loss import NormalLoss

    return NormalLoss(options, setup)
