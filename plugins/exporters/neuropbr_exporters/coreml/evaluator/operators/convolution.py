"""Convolution and pooling over one, two or three spatial axes."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.errors import ExportError
from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator

Spatial = Callable[..., Tensor]
_CONV: tuple[Spatial, ...] = (F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE: tuple[Spatial, ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX_POOL: tuple[Spatial, ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


@operator("conv")
def conv(a: Arguments) -> Tensor:
    """Cross-correlation with a weight of (out, in / groups, *kernel)."""
    x, weight = a.tensor("x"), a.tensor("weight")
    axes = weight.dim() - 2
    strides, dilations = a.integers("strides", [1] * axes), a.integers("dilations", [1] * axes)
    x = F.pad(x, _padding(a, x, list(weight.shape[2:]), strides, dilations))
    return _CONV[axes - 1](x, weight, a.optional("bias"), strides, 0, dilations, a.integer("groups", 1))


@operator("conv_transpose")
def conv_transpose(a: Arguments) -> Tensor:
    """The adjoint of `conv`; only symmetric custom padding and none are known."""
    x, weight = a.tensor("x"), a.tensor("weight")
    axes = weight.dim() - 2
    strides, dilations = a.integers("strides", [1] * axes), a.integers("dilations", [1] * axes)
    pad = a.integers("pad", [0] * (2 * axes)) if a.text("pad_type", "valid") == "custom" else [0] * (2 * axes)
    if a.text("pad_type", "valid") not in {"valid", "custom"} or pad[::2] != pad[1::2]:
        raise ExportError("the reference evaluator knows conv_transpose with symmetric padding only")
    made = zip(a.shape[2:], x.shape[2:], weight.shape[2:], strides, dilations, pad[::2], strict=True)
    extra = [out - ((n - 1) * step - 2 * p + gap * (k - 1) + 1) for out, n, k, step, gap, p in made]
    transpose = _CONV_TRANSPOSE[axes - 1]
    return transpose(x, weight, a.optional("bias"), strides, pad[::2], extra, a.integer("groups", 1), dilations)


@operator("max_pool")
def max_pool(a: Arguments) -> Tensor:
    """Maximum over windows; padding never wins."""
    x, kernel, strides, padding = _window(a)
    return _MAX_POOL[len(kernel) - 1](F.pad(x, padding, value=-math.inf), kernel, strides)


@operator("avg_pool")
def avg_pool(a: Arguments) -> Tensor:
    """Mean over windows; padding counts as zeros unless it is excluded."""
    x, kernel, strides, padding = _window(a)
    total = _sum_pool(F.pad(x, padding), kernel, strides)
    if not a.flag("exclude_padding_from_average"):
        return total / math.prod(kernel)
    return total / _sum_pool(F.pad(torch.ones_like(x), padding), kernel, strides)


def _sum_pool(x: Tensor, kernel: list[int], strides: list[int]) -> Tensor:
    ones: Any = x.new_ones(x.shape[1], 1, *kernel)
    return _CONV[len(kernel) - 1](x, ones, None, strides, 0, 1, x.shape[1])


def _window(a: Arguments) -> tuple[Tensor, list[int], list[int], list[int]]:
    x, kernel = a.tensor("x"), a.integers("kernel_sizes")
    if a.flag("ceil_mode"):
        raise ExportError("the reference evaluator does not know pooling with ceil_mode; export without it")
    strides = a.integers("strides", [1] * len(kernel))
    return x, kernel, strides, _padding(a, x, kernel, strides, [1] * len(kernel))


def _padding(a: Arguments, x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """Padding in the order of `F.pad`: last axis first, before and after."""
    kind = a.text("pad_type", "valid")
    if kind == "valid":
        return [0] * (2 * len(kernel))
    if kind == "custom":
        given = a.integers("pad", [0] * (2 * len(kernel)))
        pairs = list(zip(given[::2], given[1::2], strict=True))
    else:
        extents = zip(x.shape[2:], kernel, strides, dilations, strict=True)
        totals = [max((-(-n // step) - 1) * step + (k - 1) * gap + 1 - n, 0) for n, k, step, gap in extents]
        pairs = [((n + 1) // 2, n // 2) if kind == "same_lower" else (n // 2, (n + 1) // 2) for n in totals]
    return [side for pair in reversed(pairs) for side in pair]
