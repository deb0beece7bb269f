"""The objective's weights and the step: one forward, one update from a group of batches, nothing frozen left behind."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Loss, LossInput, LossResult, Prediction
from neuropbr_core.data.batches.prepare import Prepared
from neuropbr_core.kinds import LossEntryOptions
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.loop.objective import Objective, Term, frozen, loss_weight
from neuropbr_core.training.loop.step import Stepper
from neuropbr_core.training.loop.step_log import StepLog


@pytest.mark.parametrize(
    ("entry", "weights"),
    [
        (LossEntryOptions(weight=0.5), [0.5, 0.5, 0.5, 0.5]),
        (LossEntryOptions(weight=0.5, start_epoch=3), [0, 0, 0.5, 0.5]),
        (LossEntryOptions(weight=1.0, start_epoch=2, ramp_epochs=1), [0, 0.5, 1.0, 1.0]),
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
        Term("imitation", Imitation(), LossEntryOptions(weight=0.5, start_epoch=2, ramp_epochs=1), None),
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

    def forward(self, views: Tensor, visible: Tensor, directions: Tensor | None, overview: object = None) -> Prediction:
        self.forwards += 1
        albedo = self.color.sigmoid().expand(len(views), 3, 4, 4)
        return Prediction({"albedo": albedo}, {"albedo": self.color.expand(len(views), 3, 4, 4)}, {})


def make_stepper(start_epoch: int = 1) -> tuple[Stepper, Painter, Adversary]:
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
    return drawn(2)


def drawn(batch: int) -> Prepared:
    ones = torch.ones(batch, 1, 4, 4)
    return Prepared(
        ids=["sample"] * batch,
        materials=["oak"] * batch,
        views=torch.rand(batch, 3, 3, 4, 4),
        visible=ones[:, None].expand(-1, 3, -1, -1, -1),
        targets={"albedo": torch.rand(batch, 3, 4, 4)},
        crop_to_texture=torch.eye(3).repeat(batch, 1, 1),
        valid=ones,
    )


class Careless(Adversary):
    """Logs terms with a dimension, that still have their graph."""

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        value = super().forward(x, critic).total
        return LossResult(value, {"fool": value.reshape(1)})

    def critic_loss(self, x: LossInput, critic: nn.Module) -> LossResult:
        value = super().critic_loss(x, critic).total
        return LossResult(value, {"gap": value.reshape(1, 1)})


def test_terms_of_others_are_logged_as_scalars_without_their_graph() -> None:
    stepper, _, _ = make_stepper()
    stepper.objective.terms[1].loss = Careless()
    stepped = stepper.step([make_prepared()], [1.0], 0)
    assert {value.shape for value in stepped.scalars.values()} == {torch.Size([])}
    assert not any(value.requires_grad for value in stepped.scalars.values())
    log = StepLog(stepper.fabric, 1)
    log.add(0, 0, stepped, ["sample"])
    assert {"loss/gan/fool", "critic/gan/gap"} <= log.flush(0).keys()


def test_terms_are_moved_to_the_runs_device() -> None:
    """A device without values stands in for a GPU."""
    values = torch.ones(1, 1, device="meta")
    x = LossInput(Prediction({}, {}, {}), {}, values, values, values)

    class Elsewhere(Adversary):
        def critic_loss(self, x: LossInput, critic: nn.Module) -> LossResult:
            value = critic(torch.ones(3)).sum()
            return LossResult(value, {"gap": value.detach()})

    adversary = Elsewhere()
    critic = adversary.make_critic()
    result = Term("gan", adversary, LossEntryOptions(), critic).critic_loss(x, critic)
    assert {result.total.device.type, result.terms["gap"].device.type} == {"meta"}


def test_a_step_runs_the_generator_once_and_updates_both() -> None:
    stepper, painter, adversary = make_stepper()
    critic = stepper.objective.terms[1].critic
    assert critic is not None
    before = [p.detach().clone() for p in (*painter.parameters(), *critic.parameters())]
    scalars = stepper.step([make_prepared()], [1.0], epoch=0).scalars
    after = [*painter.parameters(), *critic.parameters()]
    assert painter.forwards == 1
    # the critic's bias cancels between real and fake, so only its weight moves
    assert [bool((a != b).any()) for a, b in zip(after, before, strict=True)] == [True, True, False]
    assert adversary.frozen_in_forward == [True]
    assert all(p.requires_grad for p in critic.parameters())
    names = {"loss/total", "loss/reconstruction", "loss/l2/mse", "loss/gan/fool", "critic/total", "critic/gan/gap"}
    names |= {"grad_norm", "critic/gan/grad_norm"}
    assert set(scalars) == names
    assert not any(value.requires_grad for value in scalars.values())
    expected = 2.0 * scalars["loss/l2/mse"] + 0.1 * scalars["loss/gan/fool"]
    torch.testing.assert_close(scalars["loss/total"], expected)
    torch.testing.assert_close(scalars["loss/reconstruction"], 2.0 * scalars["loss/l2/mse"])


def test_a_loss_that_has_not_started_neither_counts_nor_trains_its_critic() -> None:
    stepper, _, adversary = make_stepper(start_epoch=4)
    critic = stepper.objective.terms[1].critic
    assert critic is not None
    before = [p.detach().clone() for p in critic.parameters()]
    scalars = stepper.step([make_prepared()], [1.0], epoch=2).scalars
    assert set(scalars) == {"loss/total", "loss/reconstruction", "loss/l2/mse", "grad_norm"}
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


def parameters_of(stepper: Stepper) -> list[Tensor]:
    critic = stepper.objective.terms[1].critic
    assert critic is not None
    return [p.detach().clone() for p in (*stepper.generator.parameters(), *critic.parameters())]


def rows(prepared: Prepared, wanted: slice) -> Prepared:
    targets = {name: value[wanted] for name, value in prepared.targets.items()}
    return replace(
        prepared,
        ids=prepared.ids[wanted],
        materials=prepared.materials[wanted],
        views=prepared.views[wanted],
        visible=prepared.visible[wanted],
        targets=targets,
        crop_to_texture=prepared.crop_to_texture[wanted],
        valid=prepared.valid[wanted],
    )


def test_a_group_gives_the_update_of_one_large_batch_even_when_its_last_batch_is_short() -> None:
    large = drawn(5)
    whole, split = make_stepper()[0], make_stepper()[0]
    for _ in range(3):
        one = whole.step([large], [1.0], epoch=0).scalars
        parts = [rows(large, slice(0, 2)), rows(large, slice(2, 4)), rows(large, slice(4, 5))]
        other = split.step(iter(parts), [0.4, 0.4, 0.2], epoch=0).scalars
        for name in one:
            torch.testing.assert_close(one[name], other[name])
    for a, b in zip(parameters_of(whole), parameters_of(split), strict=True):
        torch.testing.assert_close(a, b)


def test_only_one_batch_of_a_group_is_held_at_a_time() -> None:
    stepper, painter, _ = make_stepper()
    asked: list[int] = []

    def group() -> Iterator[Prepared]:
        for _ in range(3):
            asked.append(painter.forwards)
            yield make_prepared()

    stepper.step(group(), [1 / 3] * 3, epoch=0)
    assert asked == [0, 1, 2]


def test_the_logged_norm_is_the_one_before_clipping() -> None:
    stepper, painter, _ = make_stepper(start_epoch=10)
    stepper.grad_clip_norm = 1e-3
    before = painter.color.detach().clone()
    norm = stepper.step([make_prepared()], [1.0], epoch=0).scalars["grad_norm"]
    moved = (painter.color.detach() - before).norm()
    assert norm > 1e-2
    torch.testing.assert_close(moved, torch.tensor(0.1 * 1e-3), rtol=1e-3, atol=0)  # learning rate times the limit


def test_without_a_limit_gradients_are_as_they_are() -> None:
    stepper, painter, _ = make_stepper(start_epoch=10)
    stepper.grad_clip_norm = 0
    before = painter.color.detach().clone()
    norm = stepper.step([make_prepared()], [1.0], epoch=0).scalars["grad_norm"]
    torch.testing.assert_close((painter.color.detach() - before).norm(), 0.1 * norm)


def spoiled() -> Prepared:
    prepared = make_prepared()
    prepared.targets["albedo"][0, 0, 0, 0] = math.nan
    return prepared


def test_a_step_that_is_not_finite_is_dropped_whole() -> None:
    stepper, painter, _ = make_stepper()
    stepper.skip_nonfinite = True
    painter.register_buffer("running", torch.ones(2))

    def count(*_: object) -> None:
        painter.running.fill_(math.nan)

    painter.register_forward_hook(count)
    stepper.step([make_prepared()], [1.0], epoch=0)
    painter.running.fill_(3.0)
    before = parameters_of(stepper)
    result = stepper.step([make_prepared(), spoiled()], [0.5, 0.5], epoch=0)
    assert result == ({}, True)
    assert not result.updated
    assert all(torch.equal(a, b) for a, b in zip(parameters_of(stepper), before, strict=True))
    assert painter.running.tolist() == [3.0, 3.0]


def test_a_critic_that_is_not_finite_is_left_as_it_is_and_the_generator_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stepper, painter, adversary = make_stepper()
    stepper.skip_nonfinite = True
    loss = adversary.critic_loss
    monkeypatch.setattr(
        adversary,
        "critic_loss",
        lambda x, critic: LossResult(loss(x, critic).total * math.inf, {"gap": torch.zeros(())}),
    )
    before, color = parameters_of(stepper)[1:], painter.color.detach().clone()
    result = stepper.step([make_prepared()], [1.0], epoch=0)
    assert result.skipped
    assert result.updated
    assert not any(name.startswith("critic/") for name in result.scalars)
    assert all(torch.equal(a, b) for a, b in zip(parameters_of(stepper)[1:], before, strict=True))
    assert not torch.equal(painter.color, color)


def test_a_loss_that_starts_late_joins_in_the_epoch_that_the_recipe_names() -> None:
    stepper, _, _ = make_stepper(start_epoch=3)
    # The recipe counts from 1, and the loop from 0.
    assert [[term.name for term in stepper.objective.joining(epoch)] for epoch in range(4)] == [[], [], ["gan"], []]
