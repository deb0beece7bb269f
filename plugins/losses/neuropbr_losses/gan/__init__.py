"""Adversarial loss with a PatchGAN critic over all maps."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import BELONGS_TO, Meta, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Loss, LossSetup

NEUROPBR_API = 1

SIMPLE_LAYERS = 3
SIMPLE_WIDTH = 64
"""Size of the 70×70 PatchGAN of Isola et al. 2017, section 6.1.2."""

DEFAULT_LAYERS = 6
DEFAULT_WIDTH = 64


@dataclass(frozen=True)
class Options:
    """Options of the adversarial loss and of its critic."""

    mode: Annotated[
        Literal["hinge", "bce"],
        Meta(description="`hinge`: margins on the scores; `bce`: cross-entropy, non-saturating."),
    ] = "hinge"
    critic: Annotated[
        Literal["configurable", "simple"],
        Meta(description="`configurable`: `layers` and `width` below; `simple`: the classic fixed 70×70 PatchGAN."),
    ] = "configurable"
    layers: Annotated[
        int,
        Meta(
            ge=1,
            le=8,
            extra={BELONGS_TO: "critic"},
            description="Stride-2 convolutions of the configurable critic: 3 see 70×70 pixels, 4 see 142×142, 6 see "
            "574×574; maps must be at least 3·2^layers pixels.",
        ),
    ] = DEFAULT_LAYERS
    width: Annotated[
        int,
        Meta(
            ge=1,
            le=512,
            extra={BELONGS_TO: "critic"},
            description="Channels of the configurable critic's first layer; they double up to 8×.",
        ),
    ] = DEFAULT_WIDTH
    sigmoid: Annotated[
        bool,
        Meta(
            extra={BELONGS_TO: "mode"},
            description="The critic ends in a sigmoid and scores probabilities; `bce` only, and less stable.",
        ),
    ] = False
    critic_steps: Annotated[int, Meta(ge=1, description="Critic updates for every generator update.")] = 1

    def __post_init__(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            ValueError: The options contradict each other; the error of a recipe names the entry.
        """
        # Hinge margins lie at -1 and 1, which probabilities cannot reach.
        if self.mode == "hinge" and self.sigmoid:
            raise ValueError(
                "mode `hinge` needs unbounded scores, but sigmoid is true; set `sigmoid: false`, or `mode: bce`"
            )
        # A value that equals the default cannot be told from one that was left out, and does no harm.
        if self.critic == "simple" and (self.layers, self.width) != (DEFAULT_LAYERS, DEFAULT_WIDTH):
            raise ValueError(
                f"critic `simple` is fixed at {SIMPLE_LAYERS} layers of width {SIMPLE_WIDTH}, but layers is "
                f"{self.layers} and width is {self.width}; leave both out, or set `critic: configurable`"
            )


@hookimpl
def loss_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def create_loss(options: Options, setup: "LossSetup") -> "Loss":
    """Build the loss."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_losses.gan.loss import GanLoss

    return GanLoss(options, setup)
