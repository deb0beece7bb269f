"""Comparison of a student's maps and features with those of its teacher.

The networks may differ in width and resolution.
"""

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS
from neuropbr_losses.distillation import Options
from neuropbr_losses.masking import conceal, masked_mean
from neuropbr_losses.normal.loss import FORMS

_LEAST_POWER = 1e-8
"""Smallest mean square by which a difference is divided; a teacher's dead feature has a mean square of 0."""


class FeatureMatch(nn.Module):
    """Maps the student's features to the teacher's channels, and measures the difference.

    Each of the student's features goes through a 1×1 convolution of its own. The convolution trains with the student,
    but is no part of it. Both sides are averaged down to the coarser of the two resolutions. The difference is
    Σ v |s - t|² / Σ v |t|² for the mapped feature s, the teacher's feature t and the share v of each feature pixel that
    is valid. Division by the teacher's power makes features of any scale count alike. Both sums run over the batch.

    Args:
        pairs: Name of the teacher's feature by the name of the student's; empty takes every name that both have.
        setup: Channels of both networks' features.

    Raises:
        ModelError: There is no live teacher, or a name is unknown.

    Source: A. Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, section 2.2 (the regressor).
    """

    def __init__(self, pairs: Mapping[str, str], setup: LossSetup) -> None:
        super().__init__()
        if not setup.teacher_features:
            raise ModelError(
                "loss distillation: features need a live teacher; set teacher.mode: online, or feature_weight: 0"
            )
        self.pairs = dict(pairs)
        if not self.pairs:
            self.pairs = {name: name for name in setup.features if name in setup.teacher_features}
        _check_names("student", self.pairs.keys(), setup.features)
        _check_names("teacher", self.pairs.values(), setup.teacher_features)
        self.matchers = nn.ModuleDict()
        for own, other in self.pairs.items():
            self.matchers[own] = nn.Conv2d(setup.features[own], setup.teacher_features[other], 1)

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], valid: Float[Tensor, "B 1 H W"]
    ) -> dict[str, Tensor]:
        """Compare features.

        Args:
            student: The student's features by name.
            teacher: The teacher's features by name.
            valid: 1 where a pixel of the maps counts.

        Returns:
            The difference of each pair as a scalar, by the student's name of the feature.
        """
        differences: dict[str, Tensor] = {}
        for own, other in self.pairs.items():
            mapped = self.matchers[own](student[own].float())
            expected = teacher[other].float()
            height = min(mapped.shape[-2], expected.shape[-2])
            width = min(mapped.shape[-1], expected.shape[-1])
            # Averaging loses less than interpolating the coarser side up, which would invent detail.
            mapped = F.adaptive_avg_pool2d(mapped, (height, width))
            expected = F.adaptive_avg_pool2d(expected, (height, width))
            share = F.adaptive_avg_pool2d(valid, (height, width))
            error = ((mapped - expected).square() * share).sum()
            power = (expected.square() * share).sum()
            differences[own] = error / power.clamp(min=_LEAST_POWER * expected.numel())
        return differences


def _check_names(network: str, names: Collection[str], features: Mapping[str, int]) -> None:
    unknown = sorted(set(names) - set(features))
    if unknown:
        raise ModelError(
            f"loss distillation: features: the {network} has no {', '.join(unknown)}; it has {', '.join(features)}"
        )


def softened_divergence(
    student: Float[Tensor, "B C H W"], teacher: Float[Tensor, "B C H W"], temperature: float
) -> Float[Tensor, "B C H W"]:
    """Compute the divergence of the student's softened probability from the teacher's, times temperature².

    With q = sigmoid(teacher / T) and p = sigmoid(student / T) it is T² (q log(q / p) + (1 - q) log((1 - q) / (1 - p))).

    Args:
        student: Logits, float32; any real numbers.
        teacher: Logits, float32; any real numbers.
        temperature: T, at least 1; the factor T² keeps the size of the gradient when T changes.

    Returns:
        The divergence of each element, at least 0.

    Source: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2 and 2.1, for
    two classes.
    """
    student = student / temperature
    teacher = teacher / temperature
    # log sigmoid(x) is -softplus(-x), which does not overflow; a student that is certain and wrong then has the
    # gradient T instead of 0. Each half has a sigmoid of its own: 1 - q would round to 0 where q is close to 1.
    if_one = teacher.sigmoid() * (F.softplus(-student) - F.softplus(-teacher))
    if_zero = (-teacher).sigmoid() * (F.softplus(student) - F.softplus(teacher))
    return temperature**2 * (if_one + if_zero)


class DistillationLoss(Loss):
    """alpha · (Σ weight · difference of a map + feature weight · mean difference of features).

    Albedo, roughness and metallic are compared as softened probabilities (`softened_divergence` of their logits,
    `(B, channels, H, W)`), and normals by their angle (the loss `normal`). Each difference is a mean over channels and
    valid pixels of each image, and then over images. The value is at least 0; it is 0 where the student equals its
    teacher. The loss does not read the true maps: the recipe's other losses do, and `share` scales them by 1 - alpha.

    The terms are differences without weights: each map has a term of its name, and each of the student's features has
    a term `feature_NAME`.

    Args:
        options: Weights, temperature and features.
        setup: Names the predicted maps, and the features of both networks.

    Raises:
        ModelError: No predicted map has a weight above 0, or the features do not exist.

    Source: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015; for features A. Romero
    et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015.

    Example:
        >>> from dataclasses import replace
        >>> from neuropbr_core.contracts import LossSetup
        >>> from neuropbr_core.testing import example_loss_input
        >>> from neuropbr_losses.distillation import Options
        >>> loss = DistillationLoss(Options(alpha=0.5), LossSetup(maps=("roughness",), output_size=32))
        >>> x = example_loss_input(("roughness",), teacher=True)
        >>> loss(x).total.item() > 0
        True
        >>> loss(replace(x, teacher=x.prediction)).total.item()
        0.0
    """

    # Zero at the teacher's maps, not at the true ones.
    reconstruction = False

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        self.options = options
        self.share = options.alpha
        self.weights: dict[str, float] = {}
        for name in setup.maps:
            weight = getattr(options, name, 0.0)
            if weight > 0:
                self.weights[name] = weight
        if not self.weights and not options.feature_weight:
            raise ModelError(
                "loss distillation: nothing is left to compare: every predicted map has weight 0; give one a weight "
                "above 0, or remove the loss"
            )
        self.features: FeatureMatch | None = None
        if options.feature_weight:
            self.features = FeatureMatch(options.features, setup)

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare the prediction of `x` with the teacher's.

        Args:
            x: The student's and the teacher's prediction.
            critic: Ignored; this loss has none.

        Returns:
            The weighted sum, and the differences without weights.

        Raises:
            ModelError: `x` holds no prediction of a teacher.
        """
        if x.teacher is None:
            raise ModelError(
                "loss distillation: there is no teacher's prediction; add a section `teacher` to the recipe"
            )
        terms: dict[str, Tensor] = {}
        # The feature convolutions would run in half precision under autocast, whatever the dtype of their input.
        with torch.autocast(x.valid.device.type, enabled=False):
            total = x.valid.new_zeros(())
            for name, weight in self.weights.items():
                if MAPS[name].activation == "sigmoid":
                    logits = conceal(x.prediction.logits[name], x.valid)
                    expected_logits = conceal(x.teacher.logits[name], x.valid)
                    divergence = softened_divergence(logits, expected_logits, self.options.temperature)
                    difference = masked_mean(divergence, x.valid)
                else:
                    # Filled with 1, because a vector of length 0 has no direction and no finite gradient.
                    normals = conceal(x.prediction.maps[name], x.valid, fill=1.0)
                    expected_normals = conceal(x.teacher.maps[name], x.valid, fill=1.0)
                    difference = masked_mean(FORMS[self.options.normal_form](normals, expected_normals), x.valid)
                total = total + weight * difference
                terms[name] = difference.detach()
            if self.features is not None:
                differences = self.features(x.prediction.features, x.teacher.features, x.valid)
                total = total + self.options.feature_weight * torch.stack(list(differences.values())).mean()
                for name, difference in differences.items():
                    terms[f"feature_{name}"] = difference.detach()
        return LossResult(self.options.alpha * total, terms)
