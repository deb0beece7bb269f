"""Cross-entropy of a map that is nearly all 0 or 1, as metallic is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Loss, LossSetup

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Which map is compared, and the weight of pixels whose true value is 1."""

    map: Annotated[Literal["albedo", "roughness", "metallic"], Meta(description="The map.")] = "metallic"
    on_weight: Annotated[
        float,
        Meta(gt=0, le=100, description="Weight of a pixel whose true value is 1, where one of 0 weighs 1."),
    ] = 1.0


@hookimpl
def loss_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_loss(options: Options, setup: "LossSetup") -> "Loss":
    """Build the loss."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_losses.bce.loss import BceLoss

    return BceLoss(options, setup)
