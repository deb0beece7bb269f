"""Comparison of the intermediate features of two networks of different widths and resolutions."""

from collections.abc import Collection, Mapping

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import LossSetup
from neuropbr_core.errors import ModelError

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
