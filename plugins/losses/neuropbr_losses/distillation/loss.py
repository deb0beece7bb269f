"""A student's maps and features compared with its teacher's."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup, Prediction
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS
from neuropbr_losses.distillation import Options
from neuropbr_losses.distillation.features import FeatureMatch
from neuropbr_losses.masking import conceal, masked_mean
from neuropbr_losses.normal.loss import FORMS


def softened_divergence(
    student: Float[Tensor, "B C H W"], teacher: Float[Tensor, "B C H W"], temperature: float
) -> Float[Tensor, "B C H W"]:
    """Divergence of the student's softened probability from the teacher's, times temperature².

    With q = sigmoid(teacher / T) and p = sigmoid(student / T) it is T² (q log(q / p) + (1 - q) log((1 - q) / (1 - p))).
    The logarithms are taken of logits, as softplus, so that nothing overflows, and a side that is certain and wrong
    has the gradient T, not 0. Each is weighted by its own sigmoid: of 1 - q nothing would be left at q close to 1.

    Args:
        student: Logits, float32.
        teacher: Logits, float32.
        temperature: T, at least 1; T² keeps the gradient's size when T changes.

    Source: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2 and 2.1, for
    two classes.
    """
    found, wanted = student / temperature, teacher / temperature
    if_set = wanted.sigmoid() * (F.softplus(-found) - F.softplus(-wanted))
    if_clear = (-wanted).sigmoid() * (F.softplus(found) - F.softplus(wanted))
    return temperature**2 * (if_set + if_clear)


class DistillationLoss(Loss):
    """alpha · (Σ weight · difference of a map + feature weight · mean difference of features).

    Albedo, roughness and metallic are compared as softened probabilities, normals by their angle; each is a mean over
    channels and valid pixels of each image, then over images. Terms, without weights: each map's difference, and
    `feature_NAME` for each feature of the student. Hard targets are the business of the recipe's other losses, which
    `share` scales by 1 - alpha.

    Args:
        options: Weights, temperature and features.
        setup: Names the predicted maps, and the features of both networks.

    Raises:
        ModelError: No predicted map has a weight above 0, or the features do not exist.
    """

    reconstruction = False

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        self.options = options
        self.share = options.alpha
        self.weights = {name: getattr(options, name) for name in setup.maps if getattr(options, name, 0.0) > 0}
        if not self.weights and not options.feature_weight:
            raise ModelError(
                "loss distillation: nothing is left to compare: every predicted map has weight 0; give one a weight "
                "above 0, or remove the loss"
            )
        self.features = FeatureMatch(options.features, setup) if options.feature_weight else None

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare the prediction of `x` with the teacher's."""
        if x.teacher is None:
            raise ModelError(
                "loss distillation: there is no teacher's prediction; add a section `teacher` to the recipe"
            )
        with torch.autocast(x.valid.device.type, enabled=False):
            terms = {name: self._difference(x.prediction, x.teacher, name, x.valid) for name in self.weights}
            total = sum((self.weights[name] * value for name, value in terms.items()), start=x.valid.new_zeros(()))
            if self.features is not None:
                compared = self.features(x.prediction.features, x.teacher.features, x.valid)
                total = total + self.options.feature_weight * torch.stack(list(compared.values())).mean()
                terms |= {f"feature_{name}": value for name, value in compared.items()}
        return LossResult(self.options.alpha * total, {name: value.detach() for name, value in terms.items()})

    def _difference(self, student: Prediction, teacher: Prediction, name: str, valid: Tensor) -> Tensor:
        if MAPS[name].activation == "sigmoid":
            found, wanted = (conceal(each.logits[name], valid) for each in (student, teacher))
            return masked_mean(softened_divergence(found, wanted, self.options.temperature), valid)
        found, wanted = (conceal(each.maps[name], valid, fill=1.0) for each in (student, teacher))
        return masked_mean(FORMS[self.options.normal_form](found, wanted), valid)
