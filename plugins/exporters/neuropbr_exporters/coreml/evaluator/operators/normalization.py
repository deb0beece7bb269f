"""Normalisation layers."""

from torch import Tensor
from torch.nn import functional as F

from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator


@operator("batch_norm")
def batch_norm(a: Arguments) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) · gamma + beta, by channel, with stored statistics."""
    mean, variance = a.tensor("mean"), a.tensor("variance")
    gamma, beta = a.optional("gamma"), a.optional("beta")
    return F.batch_norm(a.tensor("x"), mean, variance, gamma, beta, eps=a.number("epsilon", 1e-5))


@operator("instance_norm")
def instance_norm(a: Arguments) -> Tensor:
    """Batch normalisation with the statistics of each image's own channel."""
    return F.instance_norm(
        a.tensor("x"), weight=a.optional("gamma"), bias=a.optional("beta"), eps=a.number("epsilon", 1e-5)
    )


@operator("layer_norm")
def layer_norm(a: Arguments) -> Tensor:
    """Normalise over `axes`, then scale and shift."""
    x = a.tensor("x")
    axes = [axis % x.dim() for axis in a.integers("axes", list(range(x.dim())))]
    centred = x - x.mean(axes, keepdim=True)
    result = centred * (centred.square().mean(axes, keepdim=True) + a.number("epsilon", 1e-5)).rsqrt()
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.dim())]
    if "gamma" in a:
        result = result * a.tensor("gamma").reshape(shape)
    return result + a.tensor("beta").reshape(shape) if "beta" in a else result
