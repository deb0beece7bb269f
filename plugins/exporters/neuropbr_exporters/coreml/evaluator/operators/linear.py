"""Matrix products."""

from torch import Tensor
from torch.nn import functional as F

from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator


@operator("linear")
def linear(a: Arguments) -> Tensor:
    """X times the transposed weight, plus bias."""
    return F.linear(a.tensor("x"), a.tensor("weight"), a.optional("bias"))


@operator("matmul")
def matmul(a: Arguments) -> Tensor:
    """Matrix product of the last two axes, either of them transposed first."""
    x, y = a.tensor("x"), a.tensor("y")
    x = x.transpose(-1, -2) if a.flag("transpose_x") else x
    y = y.transpose(-1, -2) if a.flag("transpose_y") else y
    return x @ y
