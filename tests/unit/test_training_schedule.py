"""Learning rates against closed forms."""

import pytest
import torch

from neuropbr_core.recipe.sections import Optimizer
from neuropbr_core.training.schedule import LearningRates, learning_rate


def test_cosine_with_warmup() -> None:
    options = Optimizer(scheduler="cosine", warmup_epochs=5, min_lr=1e-6)
    assert learning_rate(options, 1e-3, 0, 105) < 1e-6
    assert learning_rate(options, 1e-3, 2.5, 105) == pytest.approx(5e-4, rel=1e-3)
    assert learning_rate(options, 1e-3, 5, 105) == pytest.approx(1e-3)
    assert learning_rate(options, 1e-3, 55, 105) == pytest.approx((1e-3 + 1e-6) / 2)
    assert learning_rate(options, 1e-3, 105, 105) == pytest.approx(1e-6)


def test_step_and_none() -> None:
    step = Optimizer(scheduler="step", warmup_epochs=0, step_epochs=10, gamma=0.5)
    assert [learning_rate(step, 1.0, epoch, 100) for epoch in (0, 9.9, 10, 25)] == [1.0, 1.0, 0.5, 0.25]
    none = Optimizer(scheduler="none", warmup_epochs=0)
    assert {learning_rate(none, 0.3, epoch, 100) for epoch in (0, 50, 99.9)} == {0.3}


def test_a_run_shorter_than_its_warmup_only_warms_up() -> None:
    options = Optimizer(warmup_epochs=5)
    rates = [learning_rate(options, 1.0, epoch, 2) for epoch in (0, 1, 1.9)]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.95, abs=0.01)


def _rates(options: Optimizer) -> tuple[LearningRates, torch.optim.SGD]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=9.0)
    return LearningRates(options, 100, [(optimizer, 1.0)]), optimizer


def test_plateau_reduces_after_its_patience_and_not_below_the_floor() -> None:
    rates, optimizer = _rates(Optimizer(scheduler="plateau", warmup_epochs=0, patience=1, gamma=0.1, min_lr=0.05))
    for loss in (1.0, 0.9, 0.9, 0.95):
        rates.validated(loss)
    assert rates.set(4)["lr"] == pytest.approx(0.1)
    for _ in range(4):
        rates.validated(2.0)
    assert rates.set(8)["lr"] == pytest.approx(0.05)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_plateau_state_survives_a_resume() -> None:
    options = Optimizer(scheduler="plateau", warmup_epochs=0, patience=0, gamma=0.5)
    first, _ = _rates(options)
    for loss in (1.0, 2.0):
        first.validated(loss)
    second, _ = _rates(options)
    second.load_state_dict(first.state_dict())
    assert second.set(3)["lr"] == first.set(3)["lr"] == pytest.approx(0.5)
