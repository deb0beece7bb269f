"""Angular error of normals, in two forms whose values and gradients stay exact near zero."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import NORMAL
from neuropbr_losses.masking import conceal, masked_mean
from neuropbr_losses.normal import Options


def cosine_distance(a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """1 - cos of the angle between two vector fields, in [0, 2].

    Computed as |a - b|² / 2 on unit vectors: the same value, without the cancellation of 1 - a·b, which in float32
    loses every angle below 0.02°.

    Args:
        a: Vectors of any length above 0.
        b: Likewise.
    """
    difference = F.normalize(a, dim=1) - F.normalize(b, dim=1)
    return difference.square().sum(dim=1, keepdim=True) / 2


def angle(a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """The angle between two vector fields, radians in [0, pi].

    |a × b| and a · b are the same multiple of the angle's sine and cosine. Their atan2 has a bounded gradient
    everywhere, where acos(a · b) has an infinite one at 0; at 0 itself the subgradient is 0.

    Args:
        a: Vectors of any length above 0.
        b: Likewise.
    """
    sine = torch.linalg.vector_norm(torch.linalg.cross(a, b, dim=1), dim=1, keepdim=True)
    return torch.atan2(sine, (a * b).sum(dim=1, keepdim=True))


FORMS = {"cosine": cosine_distance, "angle": angle}


class NormalLoss(Loss):
    """Mean angular error of the normal map over valid pixels of each image, then over images.

    Lengths do not matter. Term: the same value under the name of its form.

    Args:
        options: The form of the error.
        setup: Names the predicted maps.

    Raises:
        ModelError: The generator predicts no normals.
    """

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        if NORMAL.name not in setup.maps:
            raise ModelError(
                f"loss normal: the generator predicts no normal map, only {', '.join(setup.maps) or 'nothing'}; "
                "remove the loss"
            )
        self.form = options.form

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare the normal maps of `x`."""
        prediction, target = (conceal(maps[NORMAL.name], x.valid, fill=1.0) for maps in (x.prediction.maps, x.target))
        total = masked_mean(FORMS[self.form](prediction, target), x.valid)
        return LossResult(total, {self.form: total.detach()})
