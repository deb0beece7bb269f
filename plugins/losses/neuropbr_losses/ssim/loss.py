"""1 - SSIM over the valid pixels of the chosen maps."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS
from neuropbr_losses.masking import conceal, masked_mean
from neuropbr_losses.ssim import Options
from neuropbr_losses.ssim.similarity import gaussian_taps, ssim_map


class SsimLoss(Loss):
    """Mean over the chosen maps of 1 - SSIM, in [0, 2], always in float32.

    Maps are scaled from their range to [0, 1]. Invalid pixels of both images become the target's mean over its valid
    pixels, so that windows reaching across see no difference there; the SSIM map is then averaged over the valid
    pixels of each image and over images. Half precision would be ruinous: the variances are small differences of
    large moments. Terms: each map's 1 - SSIM, by the map's name.

    Args:
        options: Maps and window.
        setup: Names the predicted maps and their size.

    Raises:
        ModelError: A chosen map is not predicted, the window is even, or the maps are smaller than half of it.
    """

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        _check(options, setup)
        self.maps = tuple(dict.fromkeys(options.maps))
        self.taps = gaussian_taps(options.window, options.sigma)

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare the maps of `x`."""
        with torch.autocast(x.valid.device.type, enabled=False):
            losses = {name: self._dissimilarity(x, name) for name in self.maps}
            total = torch.stack(list(losses.values())).mean()
        return LossResult(total, {name: loss.detach() for name, loss in losses.items()})

    def _dissimilarity(self, x: LossInput, name: str) -> Tensor:
        low, high = MAPS[name].value_range
        prediction, target = ((maps[name].float() - low) / (high - low) for maps in (x.prediction.maps, x.target))
        fill = _valid_mean(target, x.valid)
        prediction, target = (torch.where(x.valid == 0, fill, image) for image in (prediction, target))
        return masked_mean(1 - ssim_map(prediction, target, self.taps), x.valid)


def _valid_mean(image: Float[Tensor, "B C H W"], valid: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B C 1 1"]:
    """Mean of each image's channels over its valid pixels; zero where there are none."""
    pixels = (valid != 0).sum(dim=(2, 3), keepdim=True).clamp(min=1)
    return conceal(image, valid).sum(dim=(2, 3), keepdim=True) / pixels


def _check(options: Options, setup: LossSetup) -> None:
    if missing := [name for name in options.maps if name not in setup.maps]:
        raise ModelError(
            f"loss ssim: maps: {', '.join(missing)} is not predicted by the generator; it predicts "
            f"{', '.join(setup.maps) or 'nothing'}: choose among these"
        )
    if options.window % 2 == 0:
        raise ModelError(f"loss ssim: window is {options.window}, but must be odd; take {options.window + 1}")
    if setup.output_size <= options.window // 2:
        raise ModelError(
            f"loss ssim: window {options.window} needs maps of at least {options.window // 2 + 1} pixels, but the "
            f"generator's are {setup.output_size}; take a smaller window or larger maps"
        )
