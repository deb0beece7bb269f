"""Source: Charbonnier et al. 1994, "Two deterministic half-quadratic regularization algorithms"."""

import torch
from torch import Tensor, nn

from acme_neuropbr.charbonnier import Options
from neuropbr_core.contracts import Loss, LossInput, LossResult


class CharbonnierLoss(Loss):
    """sqrt(d² + ε²) - ε over the valid pixels of every map, so that the truth scores zero."""

    def __init__(self, options: Options, maps: tuple[str, ...]) -> None:
        super().__init__()
        self.epsilon, self.maps = options.epsilon, maps

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Sum over maps of the mean over valid pixels, averaged over the batch."""
        terms = {name: self._term(x.prediction.maps[name], x.target[name], x.valid) for name in self.maps}
        return LossResult(torch.stack(list(terms.values())).sum(), {k: v.detach() for k, v in terms.items()})

    def _term(self, found: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        seen = valid.expand_as(found) > 0
        difference = torch.where(seen, found - truth, 0.0)
        error = (difference.square() + self.epsilon**2).sqrt() - self.epsilon
        pixels = seen.sum(dim=(1, 2, 3)).clamp_min(1)
        return (error.sum(dim=(1, 2, 3)) / pixels).mean()
