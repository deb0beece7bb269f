"""Learning rates against closed forms."""

import pytest
import torch

from neuropbr_core.recipe.sections import Optimizer
from neuropbr_core.training.loop.schedule import LearningRates, learning_rate


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
    for epoch, loss in enumerate((1.0, 0.9, 0.9, 0.95), 1):
        rates.validated(loss, epoch)
    assert rates.set(4)["lr"] == pytest.approx(0.1)
    for epoch in range(5, 9):
        rates.validated(2.0, epoch)
    assert rates.set(8)["lr"] == pytest.approx(0.05)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_plateau_state_survives_a_resume() -> None:
    options = Optimizer(scheduler="plateau", warmup_epochs=0, patience=0, gamma=0.5)
    first, _ = _rates(options)
    for epoch, loss in enumerate((1.0, 2.0), 1):
        first.validated(loss, epoch)
    second, _ = _rates(options)
    second.load_state_dict(first.state_dict())
    assert second.set(3)["lr"] == first.set(3)["lr"] == pytest.approx(0.5)


def test_patience_counts_epochs_not_validations() -> None:
    rates, _ = _rates(Optimizer(scheduler="plateau", warmup_epochs=0, patience=10, gamma=0.5))
    found = []
    for epoch in (5, 10, 15, 20, 25):
        rates.validated(1.0, epoch, since=5)
        found.append(rates.set(epoch)["lr"])
    assert found == [1.0, 1.0, 1.0, 0.5, 0.5], "5, 10 and then 15 epochs without improvement"


def test_patience_begins_after_the_warmup() -> None:
    rates, _ = _rates(Optimizer(scheduler="plateau", warmup_epochs=5, patience=1, gamma=0.5))
    for epoch in range(1, 7):
        rates.validated(1.0, epoch)
    assert rates.set(6)["lr"] == 1.0
    rates.validated(1.0, 7)
    assert rates.set(7)["lr"] == 0.5


@pytest.mark.parametrize("scheduler", ["cosine", "step", "plateau", "none"])
def test_every_schedule_warms_generator_and_critic_up_and_then_differs(scheduler: str) -> None:
    options = Optimizer(scheduler=scheduler, warmup_epochs=4, step_epochs=2, gamma=0.5, patience=0)  # type: ignore[arg-type]
    optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=9.0) for _ in range(2)]
    rates = LearningRates(options, 8, [(optimizers[0], 1e-2), (optimizers[1], 4e-2)])
    said = []
    for epoch in range(9):
        said.append(rates.set(epoch))
        rates.validated(1.0, epoch + 1)
    lr, critic = ([row[name] for row in said] for name in ("lr", "critic_lr"))
    assert lr[:4] == sorted(lr[:4])
    assert lr[2] == pytest.approx(5e-3, rel=1e-3)
    assert critic[2] == pytest.approx(2e-2, rel=1e-3)
    expected = {
        "cosine": (1e-6 + 0.5 * (1e-2 - 1e-6), 1e-6),
        "step": (5e-3, 2.5e-3),
        "plateau": (2.5e-3, 1e-2 / 16),
        "none": (1e-2, 1e-2),
    }[scheduler]
    assert (lr[6], lr[8]) == pytest.approx(expected)
    assert optimizers[1].param_groups[0]["lr"] == critic[8]
    assert critic[8] == pytest.approx(1e-6 if scheduler == "cosine" else 4 * lr[8])
