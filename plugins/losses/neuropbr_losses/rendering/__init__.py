"""Re-rendering error: predicted and true maps shaded under the same random lights.

Source: Deschaintre et al. 2018, "Single-Image SVBRDF Capture with a Rendering-Aware Deep Network".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from neuropbr_core.plugin import Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Loss, LossSetup

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """How many renderings a step compares, and how they are encoded."""

    random: Annotated[
        int,
        Meta(ge=0, le=64, description="Renderings with distant light and camera, each from a direction of its own."),
    ] = 3
    mirrored: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="Renderings with light and camera close by, in mirror directions about a random point, which "
            "shows the highlight.",
        ),
    ] = 6
    floor: Annotated[
        float, Meta(gt=0, le=1, description="Radiance (of a white card's 1) added before the logarithm.")
    ] = 0.1


@hookimpl
def loss_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_loss(options: Options, setup: "LossSetup") -> "Loss":
    """Build the loss."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_losses.rendering.loss import RenderingLoss

    return RenderingLoss(options, setup)
