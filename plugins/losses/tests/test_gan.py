"""The adversarial loss and its critic."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuropbr_core.contracts import LossSetup
from neuropbr_core.errors import ModelError, RecipeError
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.recipe import load_recipe
from neuropbr_core.testing.loss import LossSuite, example_loss_input
from neuropbr_losses.gan import Options
from neuropbr_losses.gan.loss import GanLoss, PatchCritic, minimum_size

SETUP = LossSetup(MAP_NAMES, 32)


class TestGan(LossSuite):
    use = "gan"
    option_sets = (
        {"layers": 2, "width": 8},
        {"layers": 1, "width": 8, "mode": "bce"},
        {"layers": 2, "width": 8, "mode": "bce", "sigmoid": True, "critic_steps": 2},
        {"critic": "simple"},
    )


class Scores(nn.Module):
    """A critic that gives fixed scores: the first to real, the second to predicted maps."""

    def __init__(self, real: float, fake: float) -> None:
        super().__init__()
        self.real, self.fake = real, fake
        self.seen = torch.empty(0)

    def forward(self, maps: Tensor) -> Tensor:
        self.seen = maps
        half = len(maps) // 2
        scores = torch.tensor([self.real] * half + [self.fake] * (len(maps) - half))
        return scores.view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def small(**options: Any) -> GanLoss:
    return GanLoss(Options(**{"layers": 2, "width": 4, **options}), SETUP)


@pytest.mark.parametrize(("layers", "pixels"), [(3, 70), (4, 142), (6, 574)])
def test_receptive_field(layers: int, pixels: int) -> None:
    """From strides and kernels of the stack as it is built."""
    convolutions = [m for m in PatchCritic(8, layers, 1).modules() if isinstance(m, nn.Conv2d)]
    field = 1
    for convolution in reversed(convolutions):
        field = (field - 1) * convolution.stride[0] + convolution.kernel_size[0]
    assert field == pixels


def test_receptive_field_as_the_gradient_sees_it() -> None:
    """One score of a two-layer critic without normalisation depends on 34 pixels: 9·2² - 2."""
    critic = PatchCritic(1, 2, 2)
    for name, module in list(critic.stack.named_children()):
        if isinstance(module, nn.InstanceNorm2d):
            critic.stack._modules[name] = nn.Identity()
    maps = torch.rand(1, 1, 96, 96, requires_grad=True)
    critic(maps)[0, 0, 10, 10].backward()
    assert maps.grad is not None
    columns = maps.grad[0, 0].abs().sum(dim=0).nonzero().flatten()
    assert columns[-1] - columns[0] + 1 == 34


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_minimum_size_is_the_smallest_that_works(layers: int) -> None:
    side = minimum_size(layers)
    critic = PatchCritic(2, layers, 2)
    assert critic(torch.rand(1, 2, side, side + 1)).shape == (1, 1, 1, 1)
    with pytest.raises(ModelError, match=f"{side + 1}×{side - 1} pixels, .* at least {side}×{side}; lower `layers`"):
        critic(torch.rand(1, 2, side - 1, side + 1))


def test_default_critic_has_the_guides_size() -> None:
    """Six layers of width 64 over eight channels; counted without memory for them."""
    with torch.device("meta"):
        critic = GanLoss(Options(), LossSetup(MAP_NAMES, 2048)).make_critic()
    assert sum(p.numel() for p in critic.parameters()) == pytest.approx(15.4e6, rel=0.01)
    assert not list(critic.buffers())


def test_an_image_is_judged_alone() -> None:
    """No statistic of the batch enters a score, so real and predicted maps can share a forward."""
    critic, maps = PatchCritic(8, 2, 4), torch.rand(3, 8, 24, 24)
    torch.testing.assert_close(critic(maps)[1:2], critic(maps[1:2]))


def test_critic_sees_all_maps_scaled_with_invalid_pixels_zeroed() -> None:
    x, critic = example_loss_input(), Scores(0, 0)
    small().critic_loss(x, critic)
    assert critic.seen.shape == (4, 8, 32, 32)
    for half, maps in zip(critic.seen.chunk(2), (x.target, x.prediction.maps), strict=True):
        torch.testing.assert_close(half[:, :3], (maps["albedo"] * 2 - 1) * x.valid)
        torch.testing.assert_close(half[:, 5:], maps["normal"] * x.valid)


@pytest.mark.parametrize(
    ("options", "scores", "real", "fake", "generator"),
    [
        ({"mode": "hinge"}, (0.25, -0.5), 0.75, 0.5, 0.5),
        ({"mode": "hinge"}, (3.0, 2.0), 0.0, 3.0, -2.0),
        ({"mode": "bce"}, (0.25, -0.5), math.log1p(math.exp(-0.25)), math.log1p(math.exp(-0.5)), 0.974077),
        ({"mode": "bce", "sigmoid": True}, (0.8, 0.3), -math.log(0.8), -math.log(0.7), -math.log(0.3)),
    ],
)
def test_values_in_closed_form(
    options: dict[str, Any], scores: tuple[float, float], real: float, fake: float, generator: float
) -> None:
    loss, x = small(**options), example_loss_input()
    result = loss.critic_loss(x, Scores(*scores))
    assert {name: term.item() for name, term in result.terms.items()} == pytest.approx({"real": real, "fake": fake})
    assert result.total.item() == pytest.approx(real + fake)
    assert loss(x, Scores(scores[1], scores[1])).total.item() == pytest.approx(generator, abs=1e-5)


def test_probabilities_and_logits_are_the_same_game() -> None:
    """`sigmoid` moves the sigmoid into the critic; value and gradients stay."""
    x, results = example_loss_input(), []
    torch.manual_seed(0)
    state = small(mode="bce").make_critic().state_dict()
    for sigmoid in (False, True):
        loss = small(mode="bce", sigmoid=sigmoid)
        critic = loss.make_critic()
        critic.load_state_dict(state)
        total = loss.critic_loss(x, critic).total
        results.append((total.detach(), *torch.autograd.grad(total, list(critic.parameters()))))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_saturated_probabilities_stay_finite(score: float) -> None:
    loss, x = small(mode="bce", sigmoid=True), example_loss_input()
    assert loss.critic_loss(x, Scores(score, 1 - score)).total.isfinite()
    assert loss(x, Scores(score, score)).total.isfinite()


def test_simple_is_the_classic_patchgan() -> None:
    critic = GanLoss(Options(critic="simple"), SETUP).make_critic()
    convolutions = [m for m in critic.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 128, 256, 512, 1]
    assert [m.stride[0] for m in convolutions] == [2, 2, 2, 1, 1]


def test_critic_steps_reach_the_trainer() -> None:
    assert small(critic_steps=3).critic_steps == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmoid": True}, "mode `hinge` needs unbounded scores, .* or `mode: bce`"),
        ({"critic": "simple", "layers": 4}, "critic `simple` is fixed at 3 layers of width 64, but layers is 4"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_a_sigmoid_critic_with_hinge_is_an_error_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match=r"--set:\d+:\d+ losses\.gan: mode `hinge` needs unbounded scores"):
        load_recipe("neuropbr:quickstart", ["losses.gan={sigmoid: true, layers: 2}"])


def test_maps_too_small_for_the_critic_are_refused_before_the_first_step() -> None:
    loss = GanLoss(Options(), LossSetup(MAP_NAMES, 128))
    with pytest.raises(ModelError, match=r"loss gan: maps are 128×128 pixels, .* at least 192×192; lower `layers`"):
        loss.make_critic()


def test_forward_without_the_critic_is_refused() -> None:
    with pytest.raises(ModelError, match="loss gan: forward was called without the critic"):
        small()(replace(example_loss_input(), epoch=3))
