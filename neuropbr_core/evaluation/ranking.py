"""Whether a prediction ranks pixels of one class above those of the other, whatever its threshold."""

import torch
from jaxtyping import Float
from torch import Tensor

_BINS = 8192
_LIMIT = 16.0
"""Largest logit that is told apart; 1e-7 from 0 or 1."""


class RankStatistic:
    """Area under the ROC curve over all pixels of a set, from two histograms.

    It is the probability that a random positive pixel scores above a random negative one, ties counted by half. Scores
    are binned by their logit, so that a prediction that has all but collapsed to 0 is still told apart: scores whose
    logits lie within 0.004 of each other count as tied.

    Source: J. Hanley and B. McNeil, "The Meaning and Use of the Area under a ROC Curve", Radiology 143, 1982.
    """

    def __init__(self) -> None:
        self._counts = torch.zeros(2, _BINS, dtype=torch.float64)

    def add(
        self, score: Float[Tensor, "B 1 H W"], target: Float[Tensor, "B 1 H W"], valid: Float[Tensor, "B 1 H W"]
    ) -> None:
        """Add a batch.

        Args:
            score: Predictions in [0, 1]; pixels with NaN are left out.
            target: The truth; above one half is positive.
            valid: 1 where a pixel counts.
        """
        inside = (valid > 0.5) & ~score.isnan()
        logit = torch.logit(score[inside].float(), eps=1e-7).clamp(-_LIMIT, _LIMIT)
        bins = ((logit / _LIMIT + 1) / 2 * (_BINS - 1)).round().long().cpu()
        positive = (target[inside] > 0.5).cpu()
        for label in (0, 1):
            self._counts[label] += torch.bincount(bins[positive == bool(label)], minlength=_BINS)

    def auc(self) -> float | None:
        """The area in [0, 1], 0.5 for a constant; None while only one class was seen."""
        negative, positive = self._counts
        pairs = negative.sum() * positive.sum()
        if pairs == 0:
            return None
        below = negative.cumsum(dim=0) - negative / 2
        return float((positive * below).sum() / pairs)
