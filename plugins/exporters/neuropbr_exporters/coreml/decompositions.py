"""Operators that coremltools does not know, in terms of ones that it does."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


def _where_other(condition: Tensor, x: Tensor, other: float) -> Tensor:
    return torch.where(condition, x, _scalar(other, x))


def _where_self(condition: Tensor, x: float, other: Tensor) -> Tensor:
    return torch.where(condition, _scalar(x, other), other)


def _scalar(value: float, like: Tensor) -> Tensor:
    return torch.full((), value, dtype=like.dtype, device=like.device)


def _new_ones(x: Tensor, size: list[int], dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return torch.full(size, 1, dtype=dtype or x.dtype)


def _logit(x: Tensor, eps: float | None = None) -> Tensor:
    x = x if eps is None else x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    _aten.where.ScalarOther: _where_other,
    _aten.where.ScalarSelf: _where_self,
    _aten.new_ones.default: _new_ones,
    _aten.logit.default: _logit,
    _aten.__or__.Tensor: torch.logical_or,
    _aten.__and__.Tensor: torch.logical_and,
}
"""For `ExportedProgram.run_decompositions`."""
