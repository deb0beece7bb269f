"""Compressed weights: operations that Core ML runs once, when it loads the model."""

import math

import torch
from torch import Tensor

from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator


@operator("constexpr_lut_to_dense")
def constexpr_lut_to_dense(a: Arguments) -> Tensor:
    """Palettised weights: a table, and an index for each weight.

    Up to iOS 17 the table is a vector and indices are packed, 1, 2, 4, 6 or 8 bits each, least significant bit first.
    From iOS 18 on indices are stored in the weight's own extents, and the table has two axes more: entries, and
    values of an entry (1); its leading axes divide the weight into blocks with a table each.
    """
    table, indices = a.tensor("lut"), a.tensor("indices")
    if table.dim() == 1:
        bits = int(math.log2(table.numel()))
        return table[_unpack(indices, bits, math.prod(a.shape))].reshape(a.shape)
    return _from_tables(table, indices.long())


def _unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    digits = (packed.int().reshape(-1, 1) >> torch.arange(8)) & 1
    return (digits.reshape(-1)[: count * bits].reshape(count, bits) << torch.arange(bits)).sum(dim=1)


def _from_tables(table: Tensor, indices: Tensor) -> Tensor:
    """Look each index up in the table of its block."""
    entries = table.shape[-2]
    blocks = torch.arange(math.prod(table.shape[:-2])).reshape(table.shape[:-2])
    for axis, extent in enumerate(indices.shape):
        blocks = blocks.repeat_interleave(extent // blocks.shape[axis], axis)
    return table[..., 0].reshape(-1)[blocks * entries + indices]


@operator("constexpr_affine_dequantize")
def constexpr_affine_dequantize(a: Arguments) -> Tensor:
    """Linearly quantised weights: (q - zero point) · scale, by channel of `axis` where they are vectors."""
    quantized, axis = a.tensor("quantized_data").float(), a.integer("axis")
    shape = [1] * quantized.dim()
    shape[axis] = -1
    scale, zero = (_by_channel(a.tensor(name).float(), shape) for name in ("scale", "zero_point"))
    return (quantized - zero) * scale


def _by_channel(value: Tensor, shape: list[int]) -> Tensor:
    return value.reshape(shape) if value.dim() else value
