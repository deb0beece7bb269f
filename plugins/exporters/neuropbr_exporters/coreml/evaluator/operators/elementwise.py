"""Arithmetic, comparison and logic, value by value, with numpy's broadcasting."""

from collections.abc import Callable

import torch
from torch import Tensor

from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": torch.pow,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "identity": lambda x: x,
    "logical_not": torch.logical_not,
    "round": torch.round,
    "sign": torch.sign,
    "sin": torch.sin,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tanh": torch.tanh,
}


def _enter_binary(kind: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    operator(kind)(lambda a: function(a.tensor("x"), a.tensor("y")))


def _enter_unary(kind: str, function: Callable[[Tensor], Tensor]) -> None:
    operator(kind)(lambda a: function(a.tensor("x")))


for _kind, _binary in _BINARY.items():
    _enter_binary(_kind, _binary)
for _kind, _unary in _UNARY.items():
    _enter_unary(_kind, _unary)


@operator("real_div")
def real_div(a: Arguments) -> Tensor:
    """Quotient; whole numbers are divided towards minus infinity, as their type has no fractions."""
    x, y = a.tensor("x"), a.tensor("y")
    return x / y if x.is_floating_point() else torch.floor_divide(x, y)


@operator("cast")
def cast(a: Arguments) -> Tensor:
    """Change of type, by the type of the output; fractions are cut off when it is whole."""
    x = a.tensor("x")
    if a.outputs[0].dtype == "bool":
        return x != 0
    return x.trunc() if x.is_floating_point() and a.outputs[0].dtype.startswith(("int", "uint")) else x.float()


@operator("clip")
def clip(a: Arguments) -> Tensor:
    """Limit to [alpha, beta]."""
    return a.tensor("x").clamp(a.number("alpha"), a.number("beta"))


@operator("inverse")
def inverse(a: Arguments) -> Tensor:
    """1 / (x + epsilon)."""
    return 1 / (a.tensor("x") + a.number("epsilon", 1e-4))


@operator("log")
def log(a: Arguments) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return torch.log(a.tensor("x") + a.number("epsilon", 1e-45))


@operator("rsqrt")
def rsqrt(a: Arguments) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(a.tensor("x") + a.number("epsilon", 1e-12))
