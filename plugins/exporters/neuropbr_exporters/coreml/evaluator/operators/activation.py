"""Activation functions."""

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator


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
    x, mode = a.tensor("x"), a.text("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@operator("thresholded_relu")
def thresholded_relu(a: Arguments) -> Tensor:
    """X where it is at least alpha, 0 elsewhere."""
    x = a.tensor("x")
    return torch.where(x >= a.number("alpha", 1.0), x, 0.0)
