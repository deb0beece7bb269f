"""Choice and order: by truth value, by index, by size."""

import torch
from torch import Tensor

from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator


@operator("select")
def select(a: Arguments) -> Tensor:
    """`a` where `cond` holds, else `b`."""
    return torch.where(a.tensor("cond").bool(), a.tensor("a"), a.tensor("b"))


@operator("gather_along_axis")
def gather_along_axis(a: Arguments) -> Tensor:
    """Values at `indices` along `axis`; negative indices count from the end."""
    x, axis, indices = a.tensor("x"), a.integer("axis", 0), a.tensor("indices").long()
    return x.gather(axis, indices % x.shape[axis])


@operator("gather")
def gather(a: Arguments) -> Tensor:
    """Slices of `x` at `indices` along `axis`."""
    x, axis, indices = a.tensor("x"), a.integer("axis", 0), a.tensor("indices").long()
    axis = axis % x.dim()
    taken = x.index_select(axis, (indices % x.shape[axis]).reshape(-1))
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("argsort")
def argsort(a: Arguments) -> Tensor:
    """Indices that sort along `axis`."""
    return a.tensor("x").argsort(dim=a.integer("axis", -1), descending=not a.flag("ascending"), stable=True)


@operator("topk")
def topk(a: Arguments) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) along `axis`, sorted, and their indices."""
    values, indices = a.tensor("x").topk(
        a.integer("k", 1), dim=a.integer("axis", -1), largest=not a.flag("ascending"), sorted=a.flag("sort", True)
    )
    return values, indices
