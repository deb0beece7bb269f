"""Operators that compute value by value (arithmetic, comparison, logic, activations), and reductions over axes."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_exporters.coreml.evaluator.program import Arguments, Operator, operator

# Both operands are broadcast as numpy does it.
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

# They accumulate in float32, since arguments are widened: an FP16 sum of ones would stop growing at 2,048.
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


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """The operator of two tensors that applies a function of torch."""
    return lambda a: function(a.tensor("x"), a.tensor("y"))


def unary(function: Callable[[Tensor], Tensor]) -> Operator:
    """The operator of one tensor that applies a function of torch."""
    return lambda a: function(a.tensor("x"))


def reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """The operator that reduces axes by a function of torch."""

    def reduce(a: Arguments) -> Tensor:
        x = a.tensor("x")
        # MIL reduces over all axes when none is given.
        return function(x, a.integers("axes", list(range(x.dim()))), a.flag("keep_dims"))

    return reduce


for _kind, _binary in _BINARY.items():
    operator(_kind)(binary(_binary))
for _kind, _unary in _UNARY.items():
    operator(_kind)(unary(_unary))
for _kind, _reduction in _REDUCTIONS.items():
    operator(_kind)(reduction(_reduction))


@operator("real_div")
def real_div(a: Arguments) -> Tensor:
    """Quotient; whole numbers are divided towards minus infinity, as their type has no fractions."""
    x = a.tensor("x")
    y = a.tensor("y")
    if x.is_floating_point():
        return x / y
    return torch.floor_divide(x, y)


@operator("cast")
def cast(a: Arguments) -> Tensor:
    """Change of type, by the type of the output; fractions are cut off when it is whole."""
    x = a.tensor("x")
    dtype = a.outputs[0].dtype
    if dtype == "bool":
        return x != 0
    if x.is_floating_point() and dtype.startswith(("int", "uint")):
        return x.trunc()
    return x.float()


@operator("clip")
def clip(a: Arguments) -> Tensor:
    """Limit to [alpha, beta]."""
    return a.tensor("x").clamp(a.number("alpha"), a.number("beta"))


@operator("inverse")
def inverse(a: Arguments) -> Tensor:
    """1 / (x + epsilon)."""
    # Here and below, an argument that the program leaves out has the default that MIL documents for it.
    return 1 / (a.tensor("x") + a.number("epsilon", 1e-4))


@operator("log")
def log(a: Arguments) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return torch.log(a.tensor("x") + a.number("epsilon", 1e-45))


@operator("rsqrt")
def rsqrt(a: Arguments) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(a.tensor("x") + a.number("epsilon", 1e-12))


@operator("relu")
def relu(a: Arguments) -> Tensor:
    """max(0, x)."""
    return a.tensor("x").relu()


@operator("relu6")
def relu6(a: Arguments) -> Tensor:
    """min(6, max(0, x))."""
    return a.tensor("x").clamp(0, 6)


@operator("leaky_relu")
def leaky_relu(a: Arguments) -> Tensor:
    """X where it is positive, alpha · x elsewhere."""
    return F.leaky_relu(a.tensor("x"), a.number("alpha", 0.01))


@operator("elu")
def elu(a: Arguments) -> Tensor:
    """X where it is positive, alpha · (exp(x) - 1) elsewhere."""
    return F.elu(a.tensor("x"), a.number("alpha", 1.0))


@operator("sigmoid")
def sigmoid(a: Arguments) -> Tensor:
    """1 / (1 + exp(-x))."""
    return a.tensor("x").sigmoid()


@operator("sigmoid_hard")
def sigmoid_hard(a: Arguments) -> Tensor:
    """Alpha · x + beta, limited to [0, 1]."""
    return (a.number("alpha", 0.2) * a.tensor("x") + a.number("beta", 0.5)).clamp(0, 1)


@operator("silu")
def silu(a: Arguments) -> Tensor:
    """X · sigmoid(x)."""
    return F.silu(a.tensor("x"))


@operator("softplus")
def softplus(a: Arguments) -> Tensor:
    """log(1 + exp(x))."""
    return F.softplus(a.tensor("x"))


@operator("softmax")
def softmax(a: Arguments) -> Tensor:
    """exp(x) over its sum along `axis`."""
    return a.tensor("x").softmax(a.integer("axis", -1))


@operator("gelu")
def gelu(a: Arguments) -> Tensor:
    """X times the normal distribution's cumulative function, exactly or by one of two approximations."""
    x = a.tensor("x")
    mode = a.text("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        # 1.702 is the factor of Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.
        return x * torch.sigmoid(1.702 * x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    return F.gelu(x)


@operator("thresholded_relu")
def thresholded_relu(a: Arguments) -> Tensor:
    """X where it is at least alpha, 0 elsewhere."""
    x = a.tensor("x")
    return torch.where(x >= a.number("alpha", 1.0), x, 0.0)
