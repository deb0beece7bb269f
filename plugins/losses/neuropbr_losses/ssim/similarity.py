"""The SSIM map, fast and lean: separable shifted adds, and the gradient written out.

A window is two passes of scaled, shifted additions in place, which need no work space and outrun a depthwise
convolution on a CPU. Autograd would keep every moment and product; the gradient needs only three of their
combinations, so these are formed on the way forward and saved with the two images.

Source: Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
Similarity", IEEE Transactions on Image Processing 13(4), 2004, equation 13 with K1 = 0.01, K2 = 0.03.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

C1 = 0.01**2
C2 = 0.03**2

Taps = tuple[float, ...]


def gaussian_taps(window: int, sigma: float) -> Taps:
    """Weights of a one-dimensional Gaussian window that sum to 1."""
    weights = [math.exp(-((i - (window - 1) / 2) ** 2) / (2 * sigma**2)) for i in range(window)]
    return tuple(weight / sum(weights) for weight in weights)


def ssim_map(
    prediction: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"], taps: Taps
) -> Float[Tensor, "B C H W"]:
    """Structural similarity of every pixel's neighbourhood, at most 1.

    Borders are reflected, so that the map has the images' size.

    Args:
        prediction: Images in [0, 1] (data range 1), float32 or float64; H and W above half the window.
        target: The images to compare with; a constant, no gradient flows to it.
        taps: One axis of the separable window, odd in number (`gaussian_taps`).

    Returns:
        SSIM per pixel and channel.
    """
    padding = (len(taps) // 2,) * 4
    padded = (F.pad(image, padding, mode="reflect") for image in (prediction, target))
    apply = cast("Callable[..., Tensor]", _Ssim.apply)
    return apply(*padded, taps)


class _Ssim(torch.autograd.Function):
    """SSIM of padded images x and y with its gradient in x.

    With local moments u = E[x], v = E[y], q = E[x² + y²], c = E[xy]:
    S = (2uv + C1)(2(c - uv) + C2) / ((u² + v² + C1)(q - u² - v² + C2)), since only the sum of the variances occurs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, taps: Taps) -> Tensor:
        """Return S; save x, y and the derivatives of S in u, q and c."""
        u, v = _window(x, taps), _window(y, taps)
        q, c = _window(x * x + y * y, taps), _window(x * y, taps)
        similarity, slopes = _ssim_and_slopes(u, v, q, c)
        ctx.save_for_backward(x, y, *slopes)
        ctx.taps = taps
        return similarity

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """dL/dx = Wᵀ(g S_u) + 2x Wᵀ(g S_q) + y Wᵀ(g S_c), W being the window."""
        x, y, *slopes = ctx.saved_tensors
        of_u, of_q, of_c = (_window_transposed(grad * slope, ctx.taps) for slope in slopes)
        return of_u.addcmul_(x, of_q, value=2).addcmul_(y, of_c), None, None


def _ssim_and_slopes(u: Tensor, v: Tensor, q: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """S and its partial derivatives in u, q and c."""
    uv, squares = u * v, u * u + v * v
    luminance, contrast = 2 * uv + C1, 2 * (c - uv) + C2
    b1, b2 = squares + C1, q - squares + C2
    scale = 1 / (b1 * b2)
    similarity = luminance * contrast * scale
    of_q = -similarity / b2
    of_c = 2 * luminance * scale
    of_u = 2 * v * (contrast - luminance) * scale + 2 * u * (similarity / b2 - similarity / b1)
    return similarity, (of_u, of_q, of_c)


def _window(image: Tensor, taps: Taps) -> Tensor:
    """Weighted local mean; each axis loses `len(taps) - 1` pixels."""
    for axis in (-1, -2):
        size = image.shape[axis] - len(taps) + 1
        mean = image.narrow(axis, 0, size) * taps[0]
        for offset, tap in enumerate(taps[1:], start=1):
            mean.add_(image.narrow(axis, offset, size), alpha=tap)
        image = mean
    return image


def _window_transposed(grad: Tensor, taps: Taps) -> Tensor:
    """The adjoint of `_window`: each axis gains `len(taps) - 1` pixels."""
    for axis in (-2, -1):
        size = grad.shape[axis]
        shape = list(grad.shape)
        shape[axis] = size + len(taps) - 1
        spread = grad.new_zeros(shape)
        for offset, tap in enumerate(taps):
            spread.narrow(axis, offset, size).add_(grad, alpha=tap)
        grad = spread
    return grad
