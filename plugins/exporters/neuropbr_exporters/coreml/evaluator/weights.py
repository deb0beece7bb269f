"""Compressed weights: operations that Core ML runs once, when it loads the model."""

import math

import torch
from torch import Tensor

from neuropbr_exporters.coreml.evaluator.operators import Arguments, operator


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
        return table[_unpack(indices, bits, math.prod(a.shape))].reshape(a.shape)
    # The number of each block, spread over the weights of the block: its table starts at that number times `entries`.
    entries = table.shape[-2]
    blocks = torch.arange(math.prod(table.shape[:-2])).reshape(table.shape[:-2])
    for axis, extent in enumerate(indices.shape):
        blocks = blocks.repeat_interleave(extent // blocks.shape[axis], axis)
    return table[..., 0].reshape(-1)[blocks * entries + indices.long()]


def _unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Read `count` indices of `bits` bits each out of bytes; an index of 6 bits may cross from one byte to the next."""
    digits = ((packed.int().reshape(-1, 1) >> torch.arange(8)) & 1).reshape(-1)
    # The last byte may be padded, so digits beyond the last index are cut off.
    by_index = digits[: count * bits].reshape(count, bits)
    return (by_index << torch.arange(bits)).sum(dim=1)


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
