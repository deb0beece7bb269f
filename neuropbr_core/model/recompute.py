"""Activations that are computed again in the backward pass instead of being kept."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, *inputs: Any) -> Any:
    """Call a module, keeping only its inputs for the backward pass.

    Results, gradients and random draws are those of a plain call. So are running statistics: the second pass leaves
    them alone, where they would otherwise be updated twice.

    Source: T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.

    Args:
        module: The module.
        inputs: Its inputs; tensors, or lists and tuples of them.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still(module)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Context in which normalisation by batch statistics does not move the running ones.

    Momentum 0 leaves them as they are, and autograd the same tensors to save; only the counter of batches needs help.
    """
    moving: list[tuple[_NormBase, float | None]] = []
    counts: list[tuple[Tensor, Tensor]] = []
    for part in module.modules():
        if not isinstance(part, _NormBase) or not part.track_running_stats:
            continue
        moving.append((part, part.momentum))
        if part.num_batches_tracked is not None:
            counts.append((part.num_batches_tracked, part.num_batches_tracked.clone()))
    for part, _ in moving:
        part.momentum = 0.0
    try:
        yield
    finally:
        for part, momentum in moving:
            part.momentum = momentum
        # The counter is a buffer, which batch norm increments in place, so the tensors of before are still the buffers.
        for counter, count in counts:
            counter.copy_(count)
