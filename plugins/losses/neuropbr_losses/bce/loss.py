"""Cross-entropy on logits."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup
from neuropbr_core.errors import ModelError
from neuropbr_losses.bce import Options
from neuropbr_losses.masking import conceal, masked_mean


def divergence(logits: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Kullback-Leibler divergence of two Bernoulli distributions, in nats: cross-entropy less the truth's entropy.

    The gradient is that of the cross-entropy, sigmoid(logits) - target; the value is 0 at the truth, also where that
    lies between 0 and 1.

    Args:
        logits: Log-odds of the prediction, any size.
        target: True probabilities in [0, 1].
    """
    certain = torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") + certain


class BceLoss(Loss):
    """Weighted mean divergence of a map's logits from the truth over valid pixels of each image, then over images.

    The mean absolute error of a map that is mostly 0 has its best constant at 0, and hardly a slope there: a short run
    stays with it. Cross-entropy has its best constant at the mean and pulls hardest at what is confidently wrong.

    Term: the same value under the name of the map.

    Args:
        options: The map and the weight of pixels that are on.
        setup: Names the predicted maps.

    Raises:
        ModelError: The generator does not predict the map.
    """

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        if options.map not in setup.maps:
            raise ModelError(
                f"loss bce: the generator predicts no {options.map} map, only {', '.join(setup.maps) or 'nothing'}; "
                "name another map, or remove the loss"
            )
        self.map, self.on_weight = options.map, options.on_weight

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare the logits of `x` with its target."""
        logits, target = conceal(x.prediction.logits[self.map], x.valid), conceal(x.target[self.map], x.valid)
        weights = torch.lerp(torch.ones_like(target), torch.full_like(target, self.on_weight), target)
        total = masked_mean(weights * divergence(logits, target), x.valid)
        return LossResult(total, {self.map: total.detach()})
