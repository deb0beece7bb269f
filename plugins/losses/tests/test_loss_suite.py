"""The conformance suite of losses finds each fault that it is there to find."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuropbr_core.contracts import Loss, LossInput, LossResult
from neuropbr_core.testing.loss import LossSuite

Value = Callable[[LossInput], Tensor]


class OneMap(Loss):
    """A loss on roughness that is right unless `value` or `terms` make it wrong."""

    def __init__(self, value: Value, *, attached: bool = False) -> None:
        super().__init__()
        self.value = value
        self.attached = attached

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        total = self.value(x)
        return LossResult(total, {"roughness": total if self.attached else total.detach()})


def difference(x: LossInput) -> Tensor:
    return (x.prediction.maps["roughness"] - x.target["roughness"]).masked_fill(x.valid == 0, 0).abs()


def right(x: LossInput) -> Tensor:
    return difference(x).sum() / x.valid.sum().clamp(min=1)


def in_place(x: LossInput) -> Tensor:
    x.target["roughness"].mul_(x.valid)
    return right(x)


def by_matrix(x: LossInput) -> Tensor:
    """Autocast would compute this sum in bf16, were the result not cast back."""
    rows = difference(x).flatten(1)
    return (rows @ rows.new_ones(rows.shape[1], 1)).float().mean() / 1000


FAULTS: dict[str, tuple[str, Value]] = {
    "not a scalar": ("test_value_is_a_finite_float32_scalar", lambda x: difference(x).sum(dim=(1, 2, 3))),
    "float64": ("test_value_is_a_finite_float32_scalar", lambda x: right(x).double()),
    "writes into its input": ("test_input_is_left_as_it_was", in_place),
    "not zero at the truth": ("test_zero_at_the_truth", lambda x: right(x) + 0.1),
    "negative": ("test_positive_away_from_the_truth", lambda x: -right(x)),
    "reads invalid pixels": (
        "test_invalid_pixels_do_not_matter",
        lambda x: (x.prediction.maps["roughness"] - x.target["roughness"]).abs().mean(),
    ),
    "teaches invalid pixels": (
        "test_invalid_pixels_get_no_gradient",
        lambda x: x.prediction.maps["roughness"].mean(),
    ),
    "divides by nothing": ("test_finite_when_nothing_is_valid", lambda x: difference(x).sum() / x.valid.sum()),
    "goes up": ("test_descent_reduces_it", lambda x: right(x).detach() + 0 * x.prediction.logits["roughness"].sum()),
    "coarse under autocast": ("test_autocast_does_not_coarsen_it", by_matrix),
    "waits": ("test_never_waits_for_the_device", lambda x: right(x) * float(right(x) > 0)),
    "branches on a tensor": ("test_never_waits_for_the_device", lambda x: right(x) if right(x) > 0 else right(x) * 0),
    "indexes by a mask": (
        "test_never_waits_for_the_device",
        lambda x: difference(x)[x.valid.expand_as(difference(x)) > 0].sum() / 100,
    ),
}


def test_a_right_loss_passes() -> None:
    suite, loss = LossSuite(), OneMap(right)
    for name, _ in FAULTS.values():
        getattr(suite, name)(loss, None)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_values_are_found(fault: str) -> None:
    name, value = FAULTS[fault]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(LossSuite(), name)(OneMap(value), None)


def test_attached_terms_are_found() -> None:
    with pytest.raises(AssertionError):
        LossSuite().test_terms_are_detached_scalars_on_the_device(OneMap(right, attached=True), None)


def test_infinite_and_missing_gradients_are_found() -> None:
    with pytest.raises(AssertionError):
        LossSuite().test_gradient_is_finite(OneMap(lambda x: (difference(x) + 0).sqrt().mean()), None, truth=True)
    constant = OneMap(lambda x: right(x).detach() + 0 * x.prediction.logits["roughness"].sum())
    with pytest.raises(AssertionError):
        LossSuite().test_gradient_is_finite(constant, None, truth=False)


class Adversary(OneMap):
    """A faulty loss with a critic: each flag is one fault."""

    reconstruction = False

    def __init__(self, *, keeps: bool = False, thaws: bool = False, attached: bool = False, idle: bool = False) -> None:
        super().__init__(right)
        self.keeps, self.thaws, self.attached_fake, self.idle = keeps, thaws, attached, idle

    def make_critic(self) -> nn.Module:
        return nn.ModuleDict({"used": nn.Conv2d(1, 1, 1), "unused": nn.Conv2d(1, 1, 1)})

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        assert isinstance(critic, nn.ModuleDict)
        if self.keeps:
            self.critic = critic
        critic.requires_grad_(self.thaws)
        return LossResult(critic["used"](x.prediction.maps["roughness"] * x.valid).mean(), {})

    def critic_loss(self, x: LossInput, critic: nn.Module) -> LossResult:
        assert isinstance(critic, nn.ModuleDict)
        fake = x.prediction.maps["roughness"]
        scores = critic["used"](torch.cat((x.target["roughness"], fake if self.attached_fake else fake.detach())))
        if not self.idle:
            scores = scores + critic["unused"](torch.ones_like(scores))
        return LossResult(scores.square().mean(), {})


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        ("test_loss_does_not_keep_its_critic", "keeps"),
        ("test_frozen_critic_gets_no_gradient", "thaws"),
        ("test_critic_loss_trains_the_critic_alone", "attached"),
        ("test_critic_loss_trains_the_critic_alone", "idle"),
    ],
)
def test_faults_around_the_critic_are_found(test: str, fault: str) -> None:
    sound, faulty = Adversary(), Adversary(**{fault: True})
    getattr(LossSuite(), test)(sound, sound.make_critic().requires_grad_(False))
    with pytest.raises(AssertionError):
        getattr(LossSuite(), test)(faulty, faulty.make_critic().requires_grad_(False))
