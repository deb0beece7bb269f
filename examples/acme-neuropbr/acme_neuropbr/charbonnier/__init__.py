"""Charbonnier loss: an L1 that is smooth at zero."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from acme_neuropbr.charbonnier.loss import CharbonnierLoss
    from neuropbr_core.contracts import LossSetup

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Options of the loss."""

    epsilon: Annotated[float, Meta(gt=0, description="Width of the smooth part, in map units.")] = 1e-3


@hookimpl
def loss_options() -> type[Options]:
    """Return the options that recipes may set beside `weight`, `start_epoch` and `ramp_epochs`."""
    return Options


@hookimpl
def create_loss(options: Options, setup: "LossSetup") -> "CharbonnierLoss":
    """Build the loss for the maps that the generator predicts."""
    from acme_neuropbr.charbonnier.loss import CharbonnierLoss

    return CharbonnierLoss(options, setup.maps)
