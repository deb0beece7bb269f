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
    """Compute the Kullback-Leibler divergence of two Bernoulli distributions: cross-entropy minus the target's entropy.

    With p = sigmoid(logits) and target t it is t log(t / p) + (1 - t) log((1 - t) / (1 - p)). The gradient is that of
    the cross-entropy, p - t. Unlike the cross-entropy, the value is 0 at the truth even where t is neither 0 nor 1.

    Args:
        logits: Log-odds of the prediction; any real numbers.
        target: True probabilities in [0, 1].

    Returns:
        The divergence of each element in nats, at least 0.

    Source: S. Kullback, R. Leibler, "On Information and Sufficiency", 1951, equation 2.4, for two outcomes.
    """
    # xlogy is 0 at 0, where 0 · log 0 would be NaN.
    certain = torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") + certain


class BceLoss(Loss):
    """Weighted mean divergence between the logits of one map and its target.

    The loss is mean(w · divergence(logits, target)) with w = 1 + (`on_weight` - 1) · target, averaged over the valid
    pixels of each image and then over images. Logits and target are `(B, 1, H, W)` (albedo: 3 channels), the target in
    [0, 1]. The value is at least 0, and 0 at the truth.

    The mean absolute error of a map that is mostly 0 is least for the constant 0, and its slope there is nearly flat:
    a short run stays at that constant. Cross-entropy is least for the mean of the map, and its gradient is largest
    where the prediction is confidently wrong.

    The only term has the name of the map and the same value.

    Args:
        options: The map, and the weight of pixels whose true value is 1.
        setup: Names the predicted maps.

    Raises:
        ModelError: The generator does not predict the map.

    Source: `divergence`, the Kullback-Leibler divergence of two outcomes.

    Example:
        >>> from neuropbr_core.contracts import LossSetup
        >>> from neuropbr_core.testing import example_loss_input
        >>> from neuropbr_losses.bce import Options
        >>> loss = BceLoss(Options(map="metallic"), LossSetup(maps=("metallic",), output_size=32))
        >>> x = example_loss_input(("metallic",), truth=True)
        >>> abs(round(loss(x).total.item(), 4))
        0.0
        >>> x.prediction.logits["metallic"] = torch.zeros(2, 1, 32, 32)
        >>> x.target["metallic"] = torch.ones(2, 1, 32, 32)  # a probability of 1/2 where the truth is 1 costs log 2
        >>> round(loss(x).total.item(), 4)
        0.6931
    """

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        if options.map not in setup.maps:
            raise ModelError(
                f"loss bce: the generator predicts no {options.map} map, only {', '.join(setup.maps) or 'nothing'}; "
                "name another map, or remove the loss"
            )
        self.map = options.map
        self.on_weight = options.on_weight

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare the logits of `x` with its target.

        Args:
            x: The prediction and its target.
            critic: Ignored; this loss has none.

        Returns:
            The divergence.
        """
        logits = conceal(x.prediction.logits[self.map], x.valid)
        target = conceal(x.target[self.map], x.valid)
        # From 1 where the truth is 0 to `on_weight` where it is 1; metallic maps have values in between at edges.
        weights = torch.lerp(torch.ones_like(target), torch.full_like(target, self.on_weight), target)
        total = masked_mean(weights * divergence(logits, target), x.valid)
        return LossResult(total, {self.map: total.detach()})
