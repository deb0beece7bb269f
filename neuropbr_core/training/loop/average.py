"""A running average of weights, which validation and exports use."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from neuropbr_core.model.generator import Generator


class WeightAverage:
    """Follows a module; batch-norm statistics and other buffers are copied.

    The decay grows to its value as min(decay, (1 + n) / (10 + n)) over updates n, so that a short run is not stuck
    with its first weights.

    Args:
        module: The module, not wrapped by Fabric, on its device.
        decay: Share of the average that an update keeps, in (0, 1): 0.999 remembers about 1,000 updates.

    Attributes:
        module: A copy of the module that holds the average; in eval mode, without gradients.

    Source: B. Polyak, A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the growing decay is
    that of `num_updates` in TensorFlow's `ExponentialMovingAverage`.
    """

    def __init__(self, module: Generator, decay: float) -> None:
        self._decay = decay
        # PyTorch's class copies the module and counts updates; the formula alone is ours.
        self._averaged = AveragedModel(module, multi_avg_fn=self._average)
        averaged: Any = self._averaged.module.eval().requires_grad_(False)
        self.module: Generator = averaged

    def update(self, module: Generator) -> None:
        """Move towards the module's weights; does not wait for the device."""
        self._averaged.update_parameters(module)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the averaged weights."""
        return {"updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._averaged.n_averaged.fill_(state["updates"])

    @property
    def _updates(self) -> int:
        return int(self._averaged.n_averaged)  # it stays on the CPU

    @torch.no_grad()
    def _average(self, averages: Any, weights: Any, _: Tensor | int) -> None:
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for average, weight in zip(averages, weights, strict=True):
            # In place, so that the average keeps its memory; the same as decay * average + (1 - decay) * weight.
            average.lerp_(weight, 1 - decay)
