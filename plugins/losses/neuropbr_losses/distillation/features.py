"""Intermediate features of two networks of different widths and resolutions, compared."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import LossSetup
from neuropbr_core.errors import ModelError

_LEAST_POWER = 1e-8
"""Mean square below which a teacher's feature counts as this much; a dead one would otherwise divide by 0."""


class FeatureMatch(nn.Module):
    """Maps the student's features to the teacher's channels, and measures what is missing.

    Each of the student's features goes through a 1×1 convolution of its own, which trains with the student and is no
    part of it. Both sides are averaged down to the coarser of the two resolutions. The difference is the squared error
    as a share of the teacher's mean square, so that features of any scale count alike; both are over the whole batch,
    weighted by how much of each feature pixel is valid.

    Source: A. Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, section 2.2 (the regressor).

    Args:
        pairs: Name of the student's feature to that of the teacher's; empty takes every name that both have.
        setup: Channels of both networks' features.

    Raises:
        ModelError: There is no live teacher, or a name is unknown.
    """

    def __init__(self, pairs: Mapping[str, str], setup: LossSetup) -> None:
        super().__init__()
        if not setup.teacher_features:
            raise ModelError(
                "loss distillation: features need a live teacher; set teacher.mode: online, or feature_weight: 0"
            )
        self.pairs = dict(pairs) or {name: name for name in setup.features if name in setup.teacher_features}
        _check(self.pairs, setup)
        self.matchers = nn.ModuleDict(
            {own: nn.Conv2d(setup.features[own], setup.teacher_features[other], 1) for own, other in self.pairs.items()}
        )

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], valid: Float[Tensor, "B 1 H W"]
    ) -> dict[str, Tensor]:
        """Return the difference of each pair as a scalar, by the student's name for it."""
        return {
            own: _relative_error(self.matchers[own](student[own].float()), teacher[other].float(), valid)
            for own, other in self.pairs.items()
        }


def _relative_error(
    found: Float[Tensor, "B C h w"], wanted: Float[Tensor, "B C i j"], valid: Float[Tensor, "B 1 H W"]
) -> Float[Tensor, ""]:
    height, width = (min(sides) for sides in zip(found.shape[-2:], wanted.shape[-2:], strict=True))
    found, wanted, seen = (F.adaptive_avg_pool2d(each, (height, width)) for each in (found, wanted, valid))
    error = ((found - wanted).square() * seen).sum()
    return error / (wanted.square() * seen).sum().clamp(min=_LEAST_POWER * wanted.numel())


def _check(pairs: Mapping[str, str], setup: LossSetup) -> None:
    sides = (("student", pairs.keys(), setup.features), ("teacher", pairs.values(), setup.teacher_features))
    for whose, names, known in sides:
        if unknown := sorted(set(names) - set(known)):
            raise ModelError(
                f"loss distillation: features: the {whose} has no {', '.join(unknown)}; it has {', '.join(known)}"
            )
