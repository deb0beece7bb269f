"""Weighted mean absolute error."""

from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor, nn

from neuropbr_core.contracts import LossInput, LossResult, LossSetup
from neuropbr_core.errors import ModelError
from neuropbr_losses.fused.measures import Measure
from neuropbr_losses.fused.together import FusedMeasures, MeasuredLoss
from neuropbr_losses.l1 import Options
from neuropbr_losses.masking import conceal, masked_mean


class L1Loss(MeasuredLoss):
    """Sum over maps of weight · mean |prediction - target|.

    Maps are `(B, channels, H, W)` in the ranges of `neuropbr_core.maps`; the mean runs over the channels and valid
    pixels of each image, and then over images. Normals are compared component by component, as unit vectors in [-1, 1].
    The value is at least 0, and 0 at the truth.

    Each term is the unweighted error of a map and has the map's name; a map of weight 0 has no term.

    Args:
        options: The weights of the maps.
        setup: Names the predicted maps.

    Raises:
        ModelError: No predicted map has a weight above 0.

    Source: the mean absolute error; P. Isola et al., "Image-to-Image Translation with Conditional Adversarial
    Networks", CVPR 2017, equation 3, combine it with an adversarial loss as recipes here do.

    Example:
        >>> from neuropbr_core.contracts import LossSetup
        >>> from neuropbr_core.testing import example_loss_input
        >>> from neuropbr_losses.l1 import Options
        >>> loss = L1Loss(Options(roughness=2.0), LossSetup(maps=("roughness",), output_size=32))
        >>> x = example_loss_input(("roughness",), truth=True)
        >>> loss(x).total.item()
        0.0
        >>> x.target["roughness"] += 0.25
        >>> round(loss(x).total.item(), 4)
        0.5
    """

    fused_by = FusedMeasures

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
        """Compare the maps of `x`.

        Args:
            x: The prediction and its target.
            critic: Ignored; this loss has none.

        Returns:
            The weighted sum, and the error of each map.
        """
        values: dict[Measure, Tensor] = {}
        for measure in self.measures():
            prediction = conceal(x.prediction.maps[measure.map], x.valid)
            target = conceal(x.target[measure.map], x.valid)
            values[measure] = masked_mean((prediction - target).abs(), x.valid)
        return self.combine(values)

    def measures(self) -> tuple[Measure, ...]:
        """The error of each map that has a weight."""
        return tuple(Measure("l1", name) for name in self.weights)

    def combine(self, values: Mapping[Measure, Tensor]) -> LossResult:
        """Add up the weighted errors."""
        weighted: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        for measure in self.measures():
            weighted.append(self.weights[measure.map] * values[measure])
            # Logs show errors without weights, so that runs with different weights compare.
            terms[measure.map] = values[measure].detach()
        return LossResult(sum(weighted[1:], start=weighted[0]), terms)
