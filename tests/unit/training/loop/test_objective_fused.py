"""Losses that are computed together: which ones the objective groups, and what it makes of their results."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from neuropbr_core.contracts import FusedLosses, FusedResult, Loss, LossInput, LossResult
from neuropbr_core.errors import PluginBroken
from neuropbr_core.kinds import LossEntryOptions
from neuropbr_core.registry import Chosen, default_registry
from neuropbr_core.testing.loss import example_loss_input
from neuropbr_core.training.loop.objective import Objective, Term


class Together(FusedLosses):
    """Computes each loss by itself, and notes how many there were."""

    groups: ClassVar[list[int]] = []

    def __init__(self, losses: Sequence[Loss]) -> None:
        self.losses = losses

    def __call__(self, x: LossInput, *, measured: bool = False) -> FusedResult:
        self.groups.append(len(self.losses))
        metrics: dict[str, Tensor] = {}
        if measured:
            metrics["albedo/mae"] = x.valid.new_ones(())
        return FusedResult(tuple(loss(x) for loss in self.losses), metrics)


class Separate(Loss):
    """Mean squared error of the albedo."""

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        value = (x.prediction.maps["albedo"] - x.target["albedo"]).square().mean()
        return LossResult(value, {"mse": value.detach()})


class Fusible(Separate):
    fused_by = Together


class Changed(Fusible):
    """A subclass, whose forward pass is not the one that `Together` knows."""

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        value, terms = super().forward(x, critic)
        return LossResult(3 * value, terms)


class Judging(Fusible):
    """A loss with a critic, whose forward pass needs the critic."""

    def make_critic(self) -> nn.Module:
        return nn.Linear(1, 1)


def objective(*, fused: bool = True) -> Objective:
    judging = Judging()
    losses = {"first": Fusible(), "separate": Separate(), "second": Fusible(), "changed": Changed(), "gan": judging}
    terms = []
    for position, (name, loss) in enumerate(losses.items()):
        critic = None
        if loss is judging:
            critic = judging.make_critic()
        terms.append(Term(name, loss, LossEntryOptions(weight=1.0 + position), critic))
    return Objective(terms, fused=fused)


@pytest.fixture(autouse=True)
def no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Together, "groups", [])


def test_losses_of_the_same_class_are_computed_together_and_others_by_themselves() -> None:
    x = example_loss_input(size=(16, 16))
    expected = objective(fused=False).generator_loss(x, measured=True)
    assert Together.groups == []
    assert expected.metrics == {}
    result = objective().generator_loss(x, measured=True)
    assert Together.groups == [2]
    assert torch.equal(result.total, expected.total)
    assert list(result.terms) == list(expected.terms)
    assert result.metrics == {"albedo/mae": torch.tensor(1.0)}


def test_errors_of_maps_are_measured_only_when_they_are_asked_for() -> None:
    assert objective().generator_loss(example_loss_input(size=(16, 16))).metrics == {}


def test_validation_computes_losses_together_too() -> None:
    x = example_loss_input(size=(16, 16))
    expected = objective(fused=False).reconstruction(x)
    assert torch.equal(objective().reconstruction(x), expected)
    assert Together.groups == [2]


def test_losses_that_have_not_started_are_not_in_the_group() -> None:
    terms = [
        Term("first", Fusible(), LossEntryOptions(), None),
        Term("late", Fusible(), LossEntryOptions(start_epoch=2), None),
    ]
    growing = Objective(terms)
    x = example_loss_input(size=(16, 16))
    for epoch in (0, 2, 2):
        growing.generator_loss(replace(x, epoch=epoch))
    assert Together.groups == [1, 2, 2]


class TooFew(FusedLosses):
    """Forgets a result."""

    def __init__(self, losses: Sequence[Loss]) -> None:
        self.losses = losses

    def __call__(self, x: LossInput, *, measured: bool = False) -> FusedResult:
        return FusedResult(tuple(loss(x) for loss in self.losses[1:]), {})


class Detached(TooFew):
    """Returns losses that do not depend on the prediction."""

    def __call__(self, x: LossInput, *, measured: bool = False) -> FusedResult:
        return FusedResult(tuple(LossResult(x.valid.new_ones(()), {}) for _ in self.losses), {})


@pytest.mark.parametrize(
    ("fused_by", "message"),
    [(TooFew, "TooFew, which computes it together with others"), (Detached, "Detached")],
)
def test_what_computes_losses_wrongly_is_blamed(
    fused_by: type[FusedLosses], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fusible, "fused_by", fused_by)
    registry = default_registry()
    part: Chosen = registry.choose("loss", "l1")
    terms = [Term(name, Fusible(), LossEntryOptions(), None, part) for name in ("first", "second")]
    with pytest.raises(PluginBroken, match=message):
        Objective(terms).generator_loss(example_loss_input(size=(16, 16)))
