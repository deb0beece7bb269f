"""Every option of a recipe's optimiser reaches the updates: each against its formula, step by step."""

import math

import pytest
import torch
from torch import Tensor, nn

from neuropbr_core.recipe.sections import Optimizer
from neuropbr_core.training.loop.step import make_optimizer

LR = 0.1
GRADIENTS = (2.0, -1.0, 0.5)


def trained(options: Optimizer) -> list[float]:
    """A weight that starts at 1, after each step with one of `GRADIENTS`."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = make_optimizer(options, [weight], LR)
    found = []
    for gradient in GRADIENTS:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        found.append(weight.item())
    return found


def sgd(momentum: float, decay: float) -> list[float]:
    weight, velocity, found = 1.0, 0.0, []
    for gradient in GRADIENTS:
        velocity = momentum * velocity + gradient + decay * weight
        weight -= LR * velocity
        found.append(weight)
    return found


def adam(betas: tuple[float, float], decay: float, *, decoupled: bool) -> list[float]:
    """Kingma & Ba 2015, algorithm 1; decoupled decay as in Loshchilov & Hutter 2019, algorithm 2."""
    weight, mean, square, found = 1.0, 0.0, 0.0, []
    for step, given in enumerate(GRADIENTS, 1):
        gradient = given if decoupled else given + decay * weight
        weight *= 1 - LR * decay if decoupled else 1
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        corrected = math.sqrt(square / (1 - betas[1] ** step)) + 1e-8
        weight -= LR * mean / (1 - betas[0] ** step) / corrected
        found.append(weight)
    return found


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam_and_adamw_are_the_published_ones(betas: tuple[float, float], decay: float) -> None:
    for name, decoupled in (("adam", False), ("adamw", True)):
        options = Optimizer(name=name, betas=betas, weight_decay=decay)  # type: ignore[arg-type]
        assert trained(options) == pytest.approx(adam(betas, decay, decoupled=decoupled), rel=1e-9)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.2)])
def test_sgd_has_momentum_and_decay(momentum: float, decay: float) -> None:
    options = Optimizer(name="sgd", momentum=momentum, weight_decay=decay)
    assert trained(options) == pytest.approx(sgd(momentum, decay), rel=1e-9)


def test_weights_without_a_gradient_stay() -> None:
    weight: Tensor = nn.Parameter(torch.ones(1))
    make_optimizer(Optimizer(), [weight], LR).step()  # type: ignore[list-item]
    assert weight.item() == 1.0
