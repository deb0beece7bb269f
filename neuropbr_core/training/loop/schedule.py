"""Learning rates. A pure function of progress, so that a resumed run continues on the same curve.

PyTorch's schedulers can be chained only with `SequentialLR`, which cannot hold `ReduceLROnPlateau`; the four
schedules here need one formula each.
"""

import math
from typing import Any

from torch.optim import Optimizer as TorchOptimizer

from neuropbr_core.recipe.sections import Optimizer


def learning_rate(options: Optimizer, base: float, epoch: float, epochs: int) -> float:
    """Learning rate at a point of the run, before any plateau reduction.

    Args:
        options: The recipe's `optimizer`.
        base: Learning rate after the warm-up.
        epoch: Progress in epochs, fractional, from 0.
        epochs: Length of the run.

    Returns:
        `base` scaled by a linear warm-up, then by the schedule: `cosine` falls to `min_lr` at the end (Loshchilov &
        Hutter 2017, SGDR, eq. 5, without restarts), `step` multiplies by `gamma` every `step_epochs`; `plateau` and
        `none` stay.
    """
    warmup = min(options.warmup_epochs, epochs)
    if epoch < warmup:
        return base * (epoch + 1e-3) / (warmup + 1e-3)  # not 0 in the first step, which would be wasted
    if options.scheduler == "cosine":
        floor = min(options.min_lr, base)
        # The denominator is not 0 when the warm-up fills the whole run.
        done = min((epoch - warmup) / max(epochs - warmup, 1e-9), 1.0)
        return floor + 0.5 * (base - floor) * (1 + math.cos(math.pi * done))
    if options.scheduler == "step":
        return base * options.gamma ** int((epoch - warmup) // options.step_epochs)
    return base


class LearningRates:
    """Sets the learning rates of several optimisers, and reduces them on a plateau.

    Args:
        options: The recipe's `optimizer`.
        epochs: Length of the run.
        bases: Each optimiser with its learning rate after the warm-up.
    """

    def __init__(self, options: Optimizer, epochs: int, bases: list[tuple[TorchOptimizer, float]]) -> None:
        self.options = options
        self.epochs = epochs
        self.bases = bases
        self.factor = 1.0  # what plateaus have made of the learning rate
        self.best = math.inf
        self.bad_epochs = 0

    def set(self, epoch: float) -> dict[str, float]:
        """Set all learning rates for this point of the run.

        Returns:
            `lr` of the first optimiser, and `critic_lr` when there are more.
        """
        for optimizer, base in self.bases:
            rate = learning_rate(self.options, base, epoch, self.epochs)
            # Not within the warm-up, whose first rates the floor `min_lr` would raise.
            if self.options.scheduler == "plateau" and epoch >= self.options.warmup_epochs:
                rate = max(rate * self.factor, min(self.options.min_lr, base))
            for group in optimizer.param_groups:
                group["lr"] = rate
        # The first optimiser is the generator's; critics all have the same rate.
        rates = {}
        for name, (optimizer, _) in zip(("lr", "critic_lr"), self.bases, strict=False):
            rates[name] = float(optimizer.param_groups[0]["lr"])
        return rates

    def validated(self, loss: float, epoch: float, since: int = 1) -> None:
        """Tell the `plateau` schedule a loss.

        Args:
            loss: What must fall.
            epoch: Epochs that are done; within the warm-up patience is not tried.
            since: Epochs since it was told one.
        """
        if loss < self.best:
            self.best = loss
            self.bad_epochs = 0
            return
        if epoch > self.options.warmup_epochs:  # a low rate makes little progress, which is no plateau
            self.bad_epochs += since
        if self.bad_epochs > self.options.patience:
            self.factor *= self.options.gamma
            self.bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"factor": self.factor, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.factor = state["factor"]
        self.best = state["best"]
        self.bad_epochs = state["bad_epochs"]
