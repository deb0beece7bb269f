"""The layers of a network: convolution, pooling, matrix products, normalisation and resampling."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.errors import ExportError
from neuropbr_exporters.coreml.evaluator.program import Arguments, last_axis_first, operator

Spatial = Callable[..., Tensor]
_CONV: tuple[Spatial, ...] = (F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE: tuple[Spatial, ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX_POOL: tuple[Spatial, ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


@operator("conv")
def conv(a: Arguments) -> Tensor:
    """Cross-correlation with a weight of (out, in / groups, *kernel)."""
    x = a.tensor("x")
    weight = a.tensor("weight")
    axes = weight.dim() - 2
    strides = a.integers("strides", [1] * axes)
    dilations = a.integers("dilations", [1] * axes)
    # Padding is a step of its own, because torch's convolutions pad both sides of an axis alike and MIL's need not.
    x = F.pad(x, _padding(a, x, list(weight.shape[2:]), strides, dilations))
    return _CONV[axes - 1](x, weight, a.optional("bias"), strides, 0, dilations, a.integer("groups", 1))


@operator("conv_transpose")
def conv_transpose(a: Arguments) -> Tensor:
    """The adjoint of `conv`; the padding may be custom and symmetric, or none."""
    x = a.tensor("x")
    weight = a.tensor("weight")
    axes = weight.dim() - 2
    strides = a.integers("strides", [1] * axes)
    dilations = a.integers("dilations", [1] * axes)
    kind = a.text("pad_type", "valid")
    sides = [0] * (2 * axes)
    if kind == "custom":
        sides = a.integers("pad", sides)
    before = sides[::2]
    after = sides[1::2]
    if kind not in {"valid", "custom"} or before != after:
        raise ExportError("the reference evaluator knows conv_transpose with symmetric padding only")
    # Several extents have the same convolution, so the extent of its adjoint is a choice. MIL declares the extent;
    # torch wants the excess over the smallest one. Formula: torch.nn.ConvTranspose2d, `output_padding`.
    excess = []
    for axis in range(axes):
        span = dilations[axis] * (weight.shape[2 + axis] - 1) + 1
        smallest = (x.shape[2 + axis] - 1) * strides[axis] - 2 * before[axis] + span
        excess.append(a.shape[2 + axis] - smallest)
    transpose = _CONV_TRANSPOSE[axes - 1]
    return transpose(x, weight, a.optional("bias"), strides, before, excess, a.integer("groups", 1), dilations)


@operator("max_pool")
def max_pool(a: Arguments) -> Tensor:
    """Maximum over windows; padding is never the maximum."""
    x, kernel, strides, padding = _window(a)
    return _MAX_POOL[len(kernel) - 1](F.pad(x, padding, value=-math.inf), kernel, strides)


@operator("avg_pool")
def avg_pool(a: Arguments) -> Tensor:
    """Mean over windows; padding counts as zeros unless it is excluded."""
    x, kernel, strides, padding = _window(a)
    total = _sum_pool(F.pad(x, padding), kernel, strides)
    # torch's avg_pool pads both sides alike, so sums and counts of values are pooled separately.
    if not a.flag("exclude_padding_from_average"):
        return total / math.prod(kernel)
    return total / _sum_pool(F.pad(torch.ones_like(x), padding), kernel, strides)


def _sum_pool(x: Tensor, kernel: list[int], strides: list[int]) -> Tensor:
    # A convolution with ones, each channel by itself: torch has no pooling that sums.
    ones: Any = x.new_ones(x.shape[1], 1, *kernel)
    return _CONV[len(kernel) - 1](x, ones, None, strides, 0, 1, x.shape[1])


def _window(a: Arguments) -> tuple[Tensor, list[int], list[int], list[int]]:
    """What both poolings read: the input, the window's extents, strides, and padding in the order of `F.pad`."""
    x = a.tensor("x")
    kernel = a.integers("kernel_sizes")
    if a.flag("ceil_mode"):
        raise ExportError("the reference evaluator does not know pooling with ceil_mode; export without it")
    strides = a.integers("strides", [1] * len(kernel))
    return x, kernel, strides, _padding(a, x, kernel, strides, [1] * len(kernel))


def _padding(a: Arguments, x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """Padding in the order of `F.pad`: last axis first, before and after."""
    kind = a.text("pad_type", "valid")
    axes = len(kernel)
    sides = [0] * (2 * axes)
    if kind == "custom":
        sides = a.integers("pad", sides)
    elif kind != "valid":
        # "same": the output has ceil(extent / stride) values, so the last window may need values beyond the border.
        for axis in range(axes):
            extent = x.shape[2 + axis]
            windows = -(-extent // strides[axis])
            needed = (windows - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
            total = max(needed - extent, 0)
            smaller = total // 2
            larger = total - smaller
            # An odd value goes behind, with "same_lower" before.
            if kind == "same_lower":
                sides[2 * axis : 2 * axis + 2] = [larger, smaller]
            else:
                sides[2 * axis : 2 * axis + 2] = [smaller, larger]
    return last_axis_first(sides)


@operator("linear")
def linear(a: Arguments) -> Tensor:
    """X times the transposed weight, plus bias."""
    return F.linear(a.tensor("x"), a.tensor("weight"), a.optional("bias"))


@operator("matmul")
def matmul(a: Arguments) -> Tensor:
    """Matrix product of the last two axes, either of them transposed first."""
    x = a.tensor("x")
    y = a.tensor("y")
    if a.flag("transpose_x"):
        x = x.transpose(-1, -2)
    if a.flag("transpose_y"):
        y = y.transpose(-1, -2)
    return x @ y


@operator("batch_norm")
def batch_norm(a: Arguments) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) · gamma + beta, by channel, with stored statistics."""
    return F.batch_norm(
        a.tensor("x"),
        a.tensor("mean"),
        a.tensor("variance"),
        a.optional("gamma"),
        a.optional("beta"),
        eps=a.number("epsilon", 1e-5),
    )


@operator("instance_norm")
def instance_norm(a: Arguments) -> Tensor:
    """Batch normalisation with the statistics of each image's own channel."""
    # 1e-5, here and in the other layers, is the epsilon that MIL documents as default.
    return F.instance_norm(
        a.tensor("x"), weight=a.optional("gamma"), bias=a.optional("beta"), eps=a.number("epsilon", 1e-5)
    )


@operator("layer_norm")
def layer_norm(a: Arguments) -> Tensor:
    """Normalise over `axes`, then scale and shift."""
    x = a.tensor("x")
    axes = [axis % x.dim() for axis in a.integers("axes", list(range(x.dim())))]
    # Written out: torch's layer_norm takes the last axes only, and MIL's any.
    centred = x - x.mean(axes, keepdim=True)
    result = centred * (centred.square().mean(axes, keepdim=True) + a.number("epsilon", 1e-5)).rsqrt()
    shape = [1] * x.dim()
    for axis in axes:
        shape[axis] = x.shape[axis]
    if "gamma" in a:
        result = result * a.tensor("gamma").reshape(shape)
    if "beta" in a:
        result = result + a.tensor("beta").reshape(shape)
    return result


@operator("upsample_bilinear")
def upsample_bilinear(a: Arguments) -> Tensor:
    """Bilinear interpolation to the declared size."""
    # By size: a factor such as 2.5 does not tell which way the extent was rounded.
    return F.interpolate(
        a.tensor("x"), size=a.shape[-2:], mode="bilinear", align_corners=a.flag("align_corners", default=True)
    )


@operator("upsample_nearest_neighbor")
def upsample_nearest_neighbor(a: Arguments) -> Tensor:
    """Nearest neighbour, to the declared size."""
    return F.interpolate(a.tensor("x"), size=a.shape[-2:], mode="nearest")


@operator("pixel_shuffle")
def pixel_shuffle(a: Arguments) -> Tensor:
    """Channels to pixels."""
    return F.pixel_shuffle(a.tensor("x"), a.integer("upscale_factor"))


@operator("pixel_unshuffle")
def pixel_unshuffle(a: Arguments) -> Tensor:
    """Pixels to channels."""
    return F.pixel_unshuffle(a.tensor("x"), a.integer("downscale_factor"))


# Compressed weights: operations that Core ML runs once, when it loads the model.


@operator("constexpr_lut_to_dense")
def constexpr_lut_to_dense(a: Arguments) -> Tensor:
    """Palettised weights: a table, and an index for each weight.

    Up to iOS 17 the table is a vector and indices are packed, 1, 2, 4, 6 or 8 bits each, least significant bit first.
    From iOS 18 on indices are stored in the weight's own extents, and the table has two axes more: entries, and
    values of an entry (1); its leading axes divide the weight into blocks with a table each.
    """
    table = a.tensor("lut")
    indices = a.tensor("indices")
    if table.dim() == 1:
        # A table of 2^n entries has indices of n bits.
        bits = int(math.log2(table.numel()))
        # One digit of 0 or 1 a place, because an index of 6 bits may cross from one byte to the next. The last byte may
        # be padded, so digits beyond the last index are cut off.
        digits = ((indices.int().reshape(-1, 1) >> torch.arange(8)) & 1).reshape(-1)
        by_index = digits[: math.prod(a.shape) * bits].reshape(-1, bits)
        return table[(by_index << torch.arange(bits)).sum(dim=1)].reshape(a.shape)
    # The number of each block, spread over the weights of the block: its table starts at that number times `entries`.
    entries = table.shape[-2]
    blocks = torch.arange(math.prod(table.shape[:-2])).reshape(table.shape[:-2])
    for axis, extent in enumerate(indices.shape):
        blocks = blocks.repeat_interleave(extent // blocks.shape[axis], axis)
    return table[..., 0].reshape(-1)[blocks * entries + indices.long()]


@operator("constexpr_affine_dequantize")
def constexpr_affine_dequantize(a: Arguments) -> Tensor:
    """Linearly quantised weights: (q - zero point) · scale, by channel of `axis` where they are vectors."""
    quantized = a.tensor("quantized_data").float()
    scale = a.tensor("scale").float()
    zero_point = a.tensor("zero_point").float()
    # Vectors get the channels' axis, so that they are broadcast over the others. Scalars need no axis.
    by_channel = [1] * quantized.dim()
    by_channel[a.integer("axis")] = -1
    if scale.dim():
        scale = scale.reshape(by_channel)
    if zero_point.dim():
        zero_point = zero_point.reshape(by_channel)
    return (quantized - zero_point) * scale
