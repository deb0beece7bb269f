"""Convolutions that do not see where a frame ends.

Zeros beyond the frame are a pattern of their own. A network sees them and answers with a frame of one pixel around
every map, so what reads or writes at full resolution continues the frame by its own border instead. Encoders and other
components may use this module.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def continue_border(frame: Float[Tensor, "B C h w"], width: int) -> Float[Tensor, "B C H W"]:
    """Continue a frame on all four sides by repeating its outermost pixels.

    Equal to `torch.nn.functional.pad(..., mode="replicate")`, but made of slices and concatenations. With torch 2.14, a
    model that was compiled with that function stops in its backward pass, because torch expects other strides.

    Args:
        frame: Features or images.
        width: Pixels to add on each side.

    Returns:
        The frame, `2 * width` pixels larger in both directions.
    """
    for dim in (-2, -1):
        first = frame.narrow(dim, 0, 1)
        last = frame.narrow(dim, frame.shape[dim] - 1, 1)
        frame = torch.cat((*[first] * width, frame, *[last] * width), dim=dim)
    return frame


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
