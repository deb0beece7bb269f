"""Weighted mean absolute error."""

from dataclasses import asdict

from torch import Tensor, nn

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup
from neuropbr_core.errors import ModelError
from neuropbr_losses.l1 import Options
from neuropbr_losses.masking import conceal, masked_mean


class L1Loss(Loss):
    """Sum over maps of weight · mean |prediction - target|.

    The mean runs over channels and valid pixels of each image, then over images. Normals are compared component by
    component as unit vectors in [-1, 1]. Terms: each map's unweighted error, by the map's name; a map of weight 0 has
    none.

    Args:
        options: The map weights.
        setup: Names the predicted maps.

    Raises:
        ModelError: No predicted map has a weight above 0.
    """

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        given: dict[str, float] = asdict(options)
        self.weights = {name: given[name] for name in setup.maps if given.get(name, 0.0) > 0}
        if not self.weights:
            raise ModelError(
                f"loss l1: no map is left to compare: the generator predicts {', '.join(setup.maps) or 'no map'}, and "
                "each of these has weight 0; give one a weight above 0, or remove the loss"
            )

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare the maps of `x`."""
        errors = {name: self._error(x, name) for name in self.weights}
        total = sum((self.weights[name] * error for name, error in errors.items()), start=x.valid.new_zeros(()))
        return LossResult(total, {name: error.detach() for name, error in errors.items()})

    @staticmethod
    def _error(x: LossInput, name: str) -> Tensor:
        prediction, target = conceal(x.prediction.maps[name], x.valid), conceal(x.target[name], x.valid)
        return masked_mean((prediction - target).abs(), x.valid)
