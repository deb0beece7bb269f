"""Reductions over axes; accumulated in float32."""

from collections.abc import Callable

import torch
from torch import Tensor

from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator

_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_mean": torch.mean,
    "reduce_sum": torch.sum,
    "reduce_max": torch.amax,
    "reduce_min": torch.amin,
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
    "reduce_log_sum_exp": torch.logsumexp,
}


def _enter(kind: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    def reduce(a: Arguments) -> Tensor:
        x = a.tensor("x")
        return function(x, a.integers("axes", list(range(x.dim()))), a.flag("keep_dims"))

    operator(kind)(reduce)


for _kind, _function in _REDUCTIONS.items():
    _enter(_kind, _function)
