"""Distillation: a student learns from the softened maps, the normals and the features of a teacher."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from neuropbr_core.plugin import Meta, Needs, hookimpl

if TYPE_CHECKING:
    from neuropbr_core.contracts import Loss, LossSetup

NEUROPBR_API = 1


@dataclass(frozen=True)
class Options:
    """How a student is compared with its teacher; maps that the generator does not predict are left out."""

    alpha: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="The teacher's part: this loss is multiplied by `alpha`, the reconstruction losses by 1 - "
            "`alpha`.",
        ),
    ] = 0.5
    temperature: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="Logits of albedo, roughness and metallic are divided by it on both sides: the higher, the "
            "more the teacher's certain pixels say.",
        ),
    ] = 2.0
    albedo: Annotated[float, Meta(ge=0, description="Weight of albedo.")] = 1.0
    roughness: Annotated[float, Meta(ge=0, description="Weight of roughness.")] = 1.0
    metallic: Annotated[float, Meta(ge=0, description="Weight of metallic.")] = 1.0
    normal: Annotated[float, Meta(ge=0, description="Weight of the angle between the normals.")] = 1.0
    normal_form: Annotated[
        Literal["cosine", "angle"], Meta(description="`cosine`: 1 - cos(angle); `angle`: the angle in radians.")
    ] = "cosine"
    feature_weight: Annotated[
        float, Meta(ge=0, description="Weight of the intermediate features (needs `teacher.mode: online`).")
    ] = 0.0
    features: Annotated[
        dict[str, str],
        Meta(
            description="The student's features to compare, each with the teacher's, such as {latent: latent, "
            "decoder1: decoder0}; default: all names that both have."
        ),
    ] = field(default_factory=dict)


@hookimpl
def loss_options() -> type[Options]:
    """Return the options' dataclass."""
    return Options


@hookimpl
def loss_needs(options: Options) -> Needs:
    """Ask for a teacher, and for features when they are compared."""
    return Needs(teacher=True, features=options.feature_weight > 0)


@hookimpl
def create_loss(options: Options, setup: "LossSetup") -> "Loss":
    """Build the loss."""
    # Imported on use, so that listing components does not import torch.
    from neuropbr_losses.distillation.loss import DistillationLoss

    return DistillationLoss(options, setup)
