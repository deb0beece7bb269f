"""Mean absolute error of each map, weighted per map."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Loss, LossSetup

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Weight of each map; a map that the generator does not predict is left out."""

    albedo: Annotated[float, Meta(ge=0, description="Weight of albedo (sRGB-encoded values).")] = 1.0
    roughness: Annotated[float, Meta(ge=0, description="Weight of roughness.")] = 1.0
    metallic: Annotated[float, Meta(ge=0, description="Weight of metallic.")] = 1.0
    normal: Annotated[float, Meta(ge=0, description="Weight of the normal's three components.")] = 1.0


@hookimpl
def loss_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_loss(options: Options, setup: "LossSetup") -> "Loss":
    """Build the loss."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_losses.l1.loss import L1Loss

    return L1Loss(options, setup)
