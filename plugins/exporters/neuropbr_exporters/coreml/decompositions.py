"""Operators that coremltools does not know, or converts wrongly, in terms of ones that it converts."""

import math
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


def _clamp_min(x: Tensor, bound: float) -> Any:
    """A whole number as the bound of other numbers becomes one of them; coremltools insists on equal types."""
    return _aten.clamp_min(x, float(bound)) if _is_whole_bound(x, bound) else NotImplemented


def _clamp_max(x: Tensor, bound: float) -> Any:
    return _aten.clamp_max(x, float(bound)) if _is_whole_bound(x, bound) else NotImplemented


def _is_whole_bound(x: Tensor, bound: float) -> bool:
    return isinstance(bound, int) and x.is_floating_point()


def _gelu(x: Tensor, *, approximate: str = "none") -> Any:
    """The approximation written out; coremltools drops the keyword and would convert it as the exact function.

    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """
    if approximate != "tanh":
        return NotImplemented
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    _aten.where.ScalarOther: _where_other,
    _aten.where.ScalarSelf: _where_self,
    _aten.new_ones.default: _new_ones,
    _aten.logit.default: _logit,
    _aten.gelu.default: _gelu,
    _aten.clamp_min.default: _clamp_min,
    _aten.clamp_max.default: _clamp_max,
    _aten.__or__.Tensor: torch.logical_or,
    _aten.__and__.Tensor: torch.logical_and,
}
"""For `ExportedProgram.run_decompositions`."""
