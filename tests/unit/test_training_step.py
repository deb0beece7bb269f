"""The objective's weights and the step's order: one forward, critics first, nothing frozen left behind."""

from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from neuropbr_core.contracts import Loss, LossInput, LossResult, Prediction
from neuropbr_core.data.prepare import Prepared
from neuropbr_core.kinds import LossEntryOptions
from neuropbr_core.training.objective import Averages, Objective, Term, frozen, loss_weight
from neuropbr_core.training.step import Stepper


@pytest.mark.parametrize(
    ("entry", "weights"),
    [
        (LossEntryOptions(weight=0.5), [0.5, 0.5, 0.5, 0.5]),
        (LossEntryOptions(weight=0.5, start_epoch=2), [0, 0, 0.5, 0.5]),
        (LossEntryOptions(weight=1.0, start_epoch=1, ramp_epochs=1), [0, 0.5, 1.0, 1.0]),
    ],
)
def test_weights_start_and_ramp(entry: LossEntryOptions, weights: list[float]) -> None:
    assert [loss_weight(entry, epoch) for epoch in range(4)] == pytest.approx(weights)


class Squared(Loss):
    """Mean squared albedo error."""

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        value = (x.prediction.maps["albedo"] - x.target["albedo"]).square().mean()
        return LossResult(value, {"mse": value.detach()})


class Imitation(Squared):
    """Claims part of the objective from the reconstruction losses."""

    reconstruction = False
    share = 0.75


def test_a_share_is_taken_from_the_reconstruction_losses_alone_and_ramps() -> None:
    """From epoch 1 on the imitation counts, half at first: 1 - 0.75 / 2, then 1 - 0.75 of the others is left."""
    albedo = torch.full((1, 3, 2, 2), 2.0)
    x = LossInput(Prediction({"albedo": albedo}, {}, {}), {"albedo": albedo - 1}, albedo, albedo, albedo[:, :1])
    terms = [
        Term("squared", Squared(), LossEntryOptions(weight=3.0), None),
        Term("imitation", Imitation(), LossEntryOptions(weight=0.5, start_epoch=1, ramp_epochs=1), None),
    ]
    results = [Objective(terms).generator_loss(replace(x, epoch=epoch)) for epoch in range(3)]
    assert [result.total.item() for result in results] == pytest.approx([3, 3 * 0.625 + 0.25, 3 * 0.25 + 0.5])
    assert [result.terms["reconstruction"].item() for result in results] == pytest.approx([3, 3, 3])


class Adversary(Loss):
    """A critic that scores mean albedo."""

    reconstruction = False
    critic_steps = 2

    def __init__(self) -> None:
        super().__init__()
        self.frozen_in_forward: list[bool] = []

    def make_critic(self) -> nn.Module:
        return nn.Linear(3, 1)

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        assert critic is not None
        self.frozen_in_forward.append(not any(p.requires_grad for p in critic.parameters()))
        value = -critic(x.prediction.maps["albedo"].mean(dim=(2, 3))).mean()
        return LossResult(value, {"fool": value.detach()})

    def critic_loss(self, x: LossInput, critic: nn.Module) -> LossResult:
        assert not x.prediction.maps["albedo"].requires_grad
        both = torch.cat((x.prediction.maps["albedo"], x.target["albedo"])).mean(dim=(2, 3))
        fake, real = critic(both).chunk(2)
        value = (fake - real).mean()
        return LossResult(value, {"gap": value.detach()})


class Painter(nn.Module):
    """A generator of one colour that counts its forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.forwards = 0

    def forward(self, views: Tensor, visible: Tensor, directions: Tensor | None) -> Prediction:
        self.forwards += 1
        albedo = self.color.sigmoid().expand(len(views), 3, 4, 4)
        return Prediction({"albedo": albedo}, {"albedo": self.color.expand(len(views), 3, 4, 4)}, {})


def make_stepper(start_epoch: int = 0) -> tuple[Stepper, Painter, Adversary]:
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1)
    painter, adversary = Painter(), Adversary()
    terms = [
        Term("l2", Squared(), LossEntryOptions(weight=2.0), None),
        Term("gan", adversary, LossEntryOptions(0.1, start_epoch=start_epoch), adversary.make_critic()),
    ]
    generator, optimizer = fabric.setup(painter, torch.optim.SGD(painter.parameters(), lr=0.1))
    critic = terms[1].critic
    assert critic is not None
    terms[1].critic, critic_optimizer = fabric.setup(critic, torch.optim.SGD(critic.parameters(), lr=0.1))
    return Stepper(fabric, generator, optimizer, Objective(terms), {"gan": critic_optimizer}, 1.0), painter, adversary


def make_prepared() -> Prepared:
    ones = torch.ones(2, 1, 4, 4)
    return Prepared(torch.rand(2, 3, 3, 4, 4), ones[:, None], None, {"albedo": torch.rand(2, 3, 4, 4)}, ones)


def test_a_step_runs_the_generator_once_and_updates_both() -> None:
    stepper, painter, adversary = make_stepper()
    critic = stepper.objective.terms[1].critic
    assert critic is not None
    before = [p.detach().clone() for p in (*painter.parameters(), *critic.parameters())]
    scalars = stepper.step(make_prepared(), epoch=0)
    after = [*painter.parameters(), *critic.parameters()]
    assert painter.forwards == 1
    # the critic's bias cancels between real and fake, so only its weight moves
    assert [bool((a != b).any()) for a, b in zip(after, before, strict=True)] == [True, True, False]
    assert adversary.frozen_in_forward == [True]
    assert all(p.requires_grad for p in critic.parameters())
    names = {"loss/total", "loss/reconstruction", "loss/l2/mse", "loss/gan/fool", "critic/total", "critic/gan/gap"}
    assert set(scalars) == names
    assert not any(value.requires_grad for value in scalars.values())
    expected = 2.0 * scalars["loss/l2/mse"] + 0.1 * scalars["loss/gan/fool"]
    torch.testing.assert_close(scalars["loss/total"], expected)
    torch.testing.assert_close(scalars["loss/reconstruction"], 2.0 * scalars["loss/l2/mse"])


def test_a_loss_that_has_not_started_neither_counts_nor_trains_its_critic() -> None:
    stepper, _, adversary = make_stepper(start_epoch=3)
    critic = stepper.objective.terms[1].critic
    assert critic is not None
    before = [p.detach().clone() for p in critic.parameters()]
    scalars = stepper.step(make_prepared(), epoch=2)
    assert set(scalars) == {"loss/total", "loss/reconstruction", "loss/l2/mse"}
    assert all(torch.equal(a, b) for a, b in zip(critic.parameters(), before, strict=True))
    assert adversary.frozen_in_forward == []


def test_reconstruction_leaves_out_the_adversary_and_ignores_schedules() -> None:
    stepper, painter, _ = make_stepper()
    prepared = make_prepared()
    prediction = painter(prepared.views, prepared.visible, None)
    x = LossInput(prediction, prepared.targets, prepared.views, prepared.visible, prepared.valid, epoch=0)
    mse = (prediction.maps["albedo"] - prepared.targets["albedo"]).square().mean()
    torch.testing.assert_close(stepper.objective.reconstruction(x), 2.0 * mse)


def test_frozen_restores_only_what_it_froze() -> None:
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    with frozen(module):
        assert not module.weight.requires_grad
    assert module.weight.requires_grad
    assert not module.bias.requires_grad


def test_averages_give_sums_and_counts_once() -> None:
    averages = Averages()
    averages.add({"a": torch.tensor(1.0)})
    averages.add({"a": torch.tensor(2.0), "b": torch.tensor(5.0)})
    assert averages.flush() == {"a": (3.0, 2), "b": (5.0, 1)}
    assert averages.flush() == {}
