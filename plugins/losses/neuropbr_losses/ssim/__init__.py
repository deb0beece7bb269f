"""Structural similarity (SSIM) of maps."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Loss, LossSetup

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """Which maps are compared, and the Gaussian window."""

    maps: Annotated[
        tuple[Literal["albedo", "roughness", "metallic", "normal"], ...],
        Meta(min_length=1, description="Maps to compare; the loss is their mean."),
    ] = ("albedo",)
    window: Annotated[int, Meta(ge=3, le=63, description="Side of the Gaussian window in pixels; odd.")] = 11
    sigma: Annotated[float, Meta(gt=0, le=16, description="Deviation of the Gaussian window in pixels.")] = 1.5


@hookimpl
def loss_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_loss(options: Options, setup: "LossSetup") -> "Loss":
    """Build the loss."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_losses.ssim.loss import SsimLoss

    return SsimLoss(options, setup)
