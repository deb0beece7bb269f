"""Losses that draw random numbers: validation draws the same ones every time and leaves training's alone."""

import torch

from neuropbr_core.contracts import LossSetup
from neuropbr_core.kinds import LossEntryOptions
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.registry import default_registry
from neuropbr_core.testing.loss import example_loss_input
from neuropbr_core.training.loop.objective import Objective, Term


def objective() -> Objective:
    registry = default_registry()
    options = registry.options("loss", "rendering")(random=1, mirrored=1)
    loss = registry.create("loss", "rendering", options, setup=LossSetup(MAP_NAMES, 16))
    return Objective([Term("rendering", loss, LossEntryOptions(), None)])


def test_validations_can_be_compared_and_training_goes_on_as_without_them() -> None:
    scored, x = objective(), example_loss_input(size=(16, 16))
    torch.manual_seed(1)
    expected = [scored.generator_loss(x).total for _ in range(2)]
    torch.manual_seed(1)
    trained = [scored.generator_loss(x).total]
    first = scored.reconstruction(x)
    trained.append(scored.generator_loss(x).total)
    assert torch.equal(first, scored.reconstruction(x))
    assert not torch.equal(expected[0], expected[1])
    assert all(torch.equal(one, other) for one, other in zip(trained, expected, strict=True))
