"""1 - SSIM over the valid pixels of the chosen maps.

`ssim_map` computes the map of similarities and its gradient in little time and memory. The window is applied in two
passes (rows, columns) of scaled, shifted additions in place. They need no work space and are faster than a depthwise
convolution on a CPU. Autograd would keep every moment and product, but the gradient needs only three combinations of
them: the forward pass computes these and saves them together with the two images.

Source: Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
Similarity", IEEE Transactions on Image Processing 13(4), 2004, equation 13 with K1 = 0.01, K2 = 0.03.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import LossInput, LossResult, LossSetup
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS
from neuropbr_losses.fused.measures import C1, C2, Measure, Taps, gaussian_taps
from neuropbr_losses.fused.together import FusedMeasures, MeasuredLoss
from neuropbr_losses.masking import conceal, masked_mean
from neuropbr_losses.ssim import Options


def ssim_map(
    prediction: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"], taps: Taps
) -> Float[Tensor, "B C H W"]:
    """Compute the structural similarity of the neighbourhood of every pixel.

    Borders are reflected, so that the map has the size of the images.

    Args:
        prediction: Images in [0, 1] (data range 1), float32 or float64; H and W above half the window.
        target: The images to compare with; no gradient flows to them.
        taps: One axis of the separable window, odd in number (`gaussian_taps`).

    Returns:
        SSIM of each pixel and channel, at most 1.
    """
    padding = (len(taps) // 2,) * 4
    x = F.pad(prediction, padding, mode="reflect")
    y = F.pad(target, padding, mode="reflect")
    apply = cast("Callable[..., Tensor]", _Ssim.apply)
    return apply(x, y, taps)


class _Ssim(torch.autograd.Function):
    """SSIM of padded images x and y, and its gradient with respect to x.

    With local moments u = E[x], v = E[y], q = E[x² + y²], c = E[xy]:
    S = (2uv + C1)(2(c - uv) + C2) / ((u² + v² + C1)(q - u² - v² + C2)).
    Only the sum of the two variances occurs, so q needs one window instead of two.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, taps: Taps) -> Tensor:
        """Return S; save x, y and the derivatives of S with respect to u, q and c."""
        u = _window(x, taps)
        v = _window(y, taps)
        q = _window(x * x + y * y, taps)
        c = _window(x * y, taps)

        uv = u * v
        squares = u * u + v * v
        # S = luminance · contrast / (b1 · b2), with the names of the paper's two factors for their numerators.
        luminance = 2 * uv + C1
        contrast = 2 * (c - uv) + C2
        b1 = squares + C1
        b2 = q - squares + C2
        scale = 1 / (b1 * b2)
        similarity = luminance * contrast * scale

        # u occurs in all four factors: in luminance and contrast through uv, in b1 and b2 through u².
        of_u = 2 * v * (contrast - luminance) * scale + 2 * u * (similarity / b2 - similarity / b1)
        of_q = -similarity / b2
        of_c = 2 * luminance * scale
        ctx.save_for_backward(x, y, of_u, of_q, of_c)
        ctx.taps = taps
        return similarity

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return dL/dx = Wᵀ(g S_u) + 2x Wᵀ(g S_q) + y Wᵀ(g S_c), where W applies the window and g is dL/dS."""
        x, y, of_u, of_q, of_c = ctx.saved_tensors
        through_u = _window_transposed(grad * of_u, ctx.taps)
        through_q = _window_transposed(grad * of_q, ctx.taps)
        through_c = _window_transposed(grad * of_c, ctx.taps)
        # The chain rule through q = E[x² + y²] gives 2x, through c = E[xy] gives y; the target gets no gradient.
        return through_u.addcmul_(x, through_q, value=2).addcmul_(y, through_c), None, None


def _window(image: Tensor, taps: Taps) -> Tensor:
    """Compute a weighted local mean; each axis loses `len(taps) - 1` pixels."""
    for axis in (-1, -2):
        size = image.shape[axis] - len(taps) + 1
        mean = image.narrow(axis, 0, size) * taps[0]
        for offset, tap in enumerate(taps[1:], start=1):
            mean.add_(image.narrow(axis, offset, size), alpha=tap)
        image = mean
    return image


def _window_transposed(grad: Tensor, taps: Taps) -> Tensor:
    """Apply the adjoint of `_window`: each axis gains `len(taps) - 1` pixels."""
    for axis in (-2, -1):
        size = grad.shape[axis]
        shape = list(grad.shape)
        shape[axis] = size + len(taps) - 1
        spread = grad.new_zeros(shape)
        for offset, tap in enumerate(taps):
            spread.narrow(axis, offset, size).add_(grad, alpha=tap)
        grad = spread
    return grad


class SsimLoss(MeasuredLoss):
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

    fused_by = FusedMeasures

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
            values: dict[Measure, Tensor] = {}
            for measure in self.measures():
                low, high = MAPS[measure.map].value_range
                prediction = (x.prediction.maps[measure.map].float() - low) / (high - low)
                target = (x.target[measure.map].float() - low) / (high - low)
                # Windows of valid pixels reach across invalid ones. Those get the target's mean over valid pixels in
                # both images, so that the windows see no difference there, and little structure.
                pixels = (x.valid != 0).sum(dim=(2, 3), keepdim=True).clamp(min=1)
                mean = conceal(target, x.valid).sum(dim=(2, 3), keepdim=True) / pixels
                prediction = torch.where(x.valid == 0, mean, prediction)
                target = torch.where(x.valid == 0, mean, target)
                values[measure] = masked_mean(1 - ssim_map(prediction, target, self.taps), x.valid)
            return self.combine(values)

    def measures(self) -> tuple[Measure, ...]:
        """1 - SSIM of each map."""
        return tuple(Measure("ssim", name, self.taps) for name in self.maps)

    def combine(self, values: Mapping[Measure, Tensor]) -> LossResult:
        """Average over the maps."""
        losses = {measure.map: values[measure] for measure in self.measures()}
        total = torch.stack(list(losses.values())).mean()
        return LossResult(total, {name: loss.detach() for name, loss in losses.items()})
