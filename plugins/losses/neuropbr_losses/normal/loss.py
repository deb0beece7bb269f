"""Angular error of normals, in two forms whose values and gradients are exact near zero."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import LossInput, LossResult, LossSetup
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import NORMAL
from neuropbr_losses.fused.measures import Measure
from neuropbr_losses.fused.together import FusedMeasures, MeasuredLoss
from neuropbr_losses.masking import conceal, masked_mean
from neuropbr_losses.normal import Options


def cosine_distance(a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Compute 1 - cos of the angle between two vector fields.

    Args:
        a: Vectors of any length above 0.
        b: Vectors of any length above 0.

    Returns:
        The distance of each pixel, in [0, 2].
    """
    # |a - b|² / 2 on unit vectors is the same value without the cancellation of 1 - a·b, which in float32 loses every
    # angle below 0.02°.
    difference = F.normalize(a, dim=1) - F.normalize(b, dim=1)
    return difference.square().sum(dim=1, keepdim=True) / 2


def angle(a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Compute the angle between two vector fields.

    Args:
        a: Vectors of any length above 0.
        b: Vectors of any length above 0.

    Returns:
        The angle of each pixel, in radians, in [0, pi].

    Source: W. Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?", 2006, on angles
    between vectors.
    """
    # |a × b| and a · b are the same multiple of the angle's sine and cosine. atan2 of both has a bounded gradient
    # everywhere, whereas acos(a · b) has an infinite one at 0. At 0 itself the subgradient is 0.
    sine = torch.linalg.vector_norm(torch.linalg.cross(a, b, dim=1), dim=1, keepdim=True)
    return torch.atan2(sine, (a * b).sum(dim=1, keepdim=True))


FORMS = {"cosine": cosine_distance, "angle": angle}
"""The functions behind the option `form`; the distillation loss compares normals by them too."""


class NormalLoss(MeasuredLoss):
    """Mean angular error of the normal map.

    With a the angle between predicted and true normal, the loss is mean(1 - cos a) (`cosine`, in [0, 2]) or mean(a)
    (`angle`, in radians, in [0, pi]), averaged over the valid pixels of each image and then over images. Normal maps
    are `(B, 3, H, W)` in tangent space (OpenGL, +Y up); the length of the vectors does not matter.

    The only term has the name of the form and the same value.

    Args:
        options: The form of the error.
        setup: Names the predicted maps.

    Raises:
        ModelError: The generator predicts no normals.

    Source: `angle` and `cosine_distance`.

    Example:
        >>> import torch
        >>> from neuropbr_core.contracts import LossSetup
        >>> from neuropbr_core.testing import example_loss_input
        >>> from neuropbr_losses.normal import Options
        >>> loss = NormalLoss(Options(form="angle"), LossSetup(maps=("normal",), output_size=32))
        >>> x = example_loss_input(("normal",), truth=True)
        >>> round(loss(x).total.item(), 4)
        0.0
        >>> x.prediction.maps["normal"] = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(2, 3, 32, 32)
        >>> x.target["normal"] = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(2, 3, 32, 32)
        >>> round(loss(x).total.item(), 4)  # 45 degrees are pi / 4
        0.7854
    """

    fused_by = FusedMeasures

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        if NORMAL.name not in setup.maps:
            raise ModelError(
                f"loss normal: the generator predicts no normal map, only {', '.join(setup.maps) or 'nothing'}; "
                "remove the loss"
            )
        self.form = options.form

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare the normal maps of `x`.

        Args:
            x: The prediction and its target.
            critic: Ignored; this loss has none.

        Returns:
            The angular error.
        """
        # Filled with 1, because a vector of length 0 has no direction and no finite gradient.
        prediction = conceal(x.prediction.maps[NORMAL.name], x.valid, fill=1.0)
        target = conceal(x.target[NORMAL.name], x.valid, fill=1.0)
        (measure,) = self.measures()
        return self.combine({measure: masked_mean(FORMS[self.form](prediction, target), x.valid)})

    def measures(self) -> tuple[Measure, ...]:
        """The angular error."""
        return (Measure(self.form, NORMAL.name),)

    def combine(self, values: Mapping[Measure, Tensor]) -> LossResult:
        """Return the angular error as it is."""
        (measure,) = self.measures()
        return LossResult(values[measure], {self.form: values[measure].detach()})
