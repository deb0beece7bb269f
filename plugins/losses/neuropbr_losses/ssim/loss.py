"""1 - SSIM over the valid pixels of the chosen maps."""

import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS
from neuropbr_losses.masking import conceal, masked_mean
from neuropbr_losses.ssim import Options
from neuropbr_losses.ssim.similarity import gaussian_taps, ssim_map


class SsimLoss(Loss):
    """Mean over the chosen maps of 1 - SSIM.

    SSIM = (2 u v + C1)(2 s_xy + C2) / ((u² + v² + C1)(s_x² + s_y² + C2)), with the means u and v, the variances s_x²
    and s_y², and the covariance s_xy of prediction and target in a Gaussian window around each pixel. Maps are
    `(B, channels, H, W)` and are first scaled from their range to [0, 1]. The SSIM map is averaged over the valid
    pixels of each image and then over images. The value is in [0, 2], and 0 at the truth.

    Each term is 1 - SSIM of one map and has the map's name.

    Args:
        options: Maps and window.
        setup: Names the predicted maps and their size.

    Raises:
        ModelError: A chosen map is not predicted, the window is even, or the maps are smaller than half of it.

    Source: Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, equation
    13.

    Example:
        >>> from neuropbr_core.contracts import LossSetup
        >>> from neuropbr_core.testing import example_loss_input
        >>> from neuropbr_losses.ssim import Options
        >>> loss = SsimLoss(Options(maps=("roughness",)), LossSetup(maps=("roughness",), output_size=32))
        >>> x = example_loss_input(("roughness",), truth=True)
        >>> abs(round(loss(x).total.item(), 4))
        0.0
        >>> x.prediction.maps["roughness"] = x.target["roughness"].flip(-1)
        >>> 0.5 < loss(x).total.item() < 1.5  # noise and its mirror image have no structure in common
        True
    """

    def __init__(self, options: Options, setup: LossSetup) -> None:
        super().__init__()
        missing = [name for name in options.maps if name not in setup.maps]
        if missing:
            raise ModelError(
                f"loss ssim: maps: {', '.join(missing)} is not predicted by the generator; it predicts "
                f"{', '.join(setup.maps) or 'nothing'}: choose among these"
            )
        if options.window % 2 == 0:
            raise ModelError(f"loss ssim: window is {options.window}, but must be odd; take {options.window + 1}")
        # The border is reflected without repeating the outermost pixel, so half a window must fit behind it.
        if setup.output_size <= options.window // 2:
            raise ModelError(
                f"loss ssim: window {options.window} needs maps of at least {options.window // 2 + 1} pixels, but the "
                f"generator's are {setup.output_size}; take a smaller window or larger maps"
            )
        # A map that a recipe names twice counts once.
        self.maps = tuple(dict.fromkeys(options.maps))
        self.taps = gaussian_taps(options.window, options.sigma)

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:  # noqa: ARG002
        """Compare the maps of `x`.

        Args:
            x: The prediction and its target.
            critic: Ignored; this loss has none.

        Returns:
            The mean over maps, and the value of each map.
        """
        # Always in float32: variances are small differences of large moments, of which half precision leaves nothing.
        with torch.autocast(x.valid.device.type, enabled=False):
            losses = {name: self._dissimilarity(x, name) for name in self.maps}
            total = torch.stack(list(losses.values())).mean()
        return LossResult(total, {name: loss.detach() for name, loss in losses.items()})

    def _dissimilarity(self, x: LossInput, name: str) -> Tensor:
        low, high = MAPS[name].value_range
        prediction = (x.prediction.maps[name].float() - low) / (high - low)
        target = (x.target[name].float() - low) / (high - low)

        # Windows of valid pixels reach across invalid ones. Those get the target's mean over valid pixels in both
        # images, so that the windows see no difference there, and little structure.
        pixels = (x.valid != 0).sum(dim=(2, 3), keepdim=True).clamp(min=1)
        mean = conceal(target, x.valid).sum(dim=(2, 3), keepdim=True) / pixels
        prediction = torch.where(x.valid == 0, mean, prediction)
        target = torch.where(x.valid == 0, mean, target)
        return masked_mean(1 - ssim_map(prediction, target, self.taps), x.valid)
