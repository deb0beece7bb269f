"""The moving average of weights."""

from typing import Any

import pytest
import torch
from torch import nn

from neuropbr_core.training.loop.average import WeightAverage


def make_module() -> Any:
    return nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))


def test_it_is_the_sum_that_its_formula_says() -> None:
    module = make_module()
    average = WeightAverage(module, 0.5)
    values = [1.0, 3.0, -2.0, 4.0, 0.5, 7.0, 2.0, 2.5, 9.0, 1.0, 6.0, 3.5]
    expected = values[0]
    for n, value in enumerate(values):
        nn.init.constant_(module[0].weight, value)
        average.update(module)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = expected if n == 0 else decay * expected + (1 - decay) * value
    assert average.module[0].weight.item() == pytest.approx(expected)  # type: ignore[index]


def test_statistics_are_copied_and_the_average_takes_no_gradient() -> None:
    module = make_module()
    average = WeightAverage(module, 0.9)
    for _ in range(3):
        module(torch.randn(8, 1))
        average.update(module)
    averaged: Any = average.module
    assert torch.equal(averaged[1].running_mean, module[1].running_mean)
    assert averaged[1].num_batches_tracked == 3
    assert not averaged.training
    assert not any(p.requires_grad for p in averaged.parameters())
    assert all(p.requires_grad for p in module.parameters())


def test_a_resumed_average_goes_on_alike() -> None:
    module = make_module()
    first = WeightAverage(module, 0.99)
    for value in (1.0, 2.0):
        nn.init.constant_(module[0].weight, value)
        first.update(module)
    second = WeightAverage(module, 0.99)
    second.module.load_state_dict(first.module.state_dict())
    second.load_state_dict(first.state_dict())
    for average in (first, second):
        nn.init.constant_(module[0].weight, 5.0)
        average.update(module)
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b)
