"""Convolutions that do not see where a frame ends.

Zeros beyond the frame are a pattern of their own. A network sees them and answers with a frame of one pixel around
every map, so what reads or writes at full resolution continues the frame by its own border instead. Encoders and other
components may use this module.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.recording import is_recording


def continue_border(frame: Float[Tensor, "B C h w"], width: int) -> Float[Tensor, "B C H W"]:
    """Continue a frame on all four sides by repeating its outermost pixels.

    Where operators are recorded, it is made of slices and concatenations: with torch 2.14, a model that was compiled
    with PyTorch's function stops in its backward pass, because torch expects other strides. So it is on CUDA, where the
    gradient of that function is not deterministic.

    Args:
        frame: Features or images.
        width: Pixels to add on each side.

    Returns:
        The frame, `2 * width` pixels larger in both directions.
    """
    if frame.device.type == "cpu" and not is_recording():  # in half the time or less
        continued: Tensor = _Continued.apply(frame, width)
        return continued
    for dim in (-2, -1):
        first = frame.narrow(dim, 0, 1)
        last = frame.narrow(dim, frame.shape[dim] - 1, 1)
        frame = torch.cat((*[first] * width, frame, *[last] * width), dim=dim)
    return frame


class _Continued(torch.autograd.Function):
    """PyTorch's function, which keeps its argument for the backward pass although it needs the shape alone."""

    @staticmethod
    def forward(ctx: Any, frame: Tensor, width: int) -> Tensor:
        ctx.shape = frame.shape
        ctx.sides = [width] * 4
        # Autocast would make it float32, for no reason.
        with torch.autocast("cpu", enabled=False):
            return F.pad(frame, ctx.sides, mode="replicate")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        shaped = gradient.new_empty(ctx.shape)
        return torch.ops.aten.replication_pad2d_backward(gradient, shaped, ctx.sides), None


class BorderConv2d(nn.Conv2d):
    """A convolution with an odd kernel whose output has the input's size over `stride`, and which repeats the border.

    Its parameters have the names and shapes of `torch.nn.Conv2d`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, odd.
        stride: Distance of the kernel's places.
        bias: Whether a bias is added.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=0, bias=bias)
        self.border = kernel_size // 2

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B out h w"]:  # noqa: A002 - torch's own name
        """Convolve."""
        return super().forward(continue_border(input, self.border))
