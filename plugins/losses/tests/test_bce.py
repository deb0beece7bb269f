"""The cross-entropy loss."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from neuropbr_core.contracts import LossSetup, Prediction
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.testing.loss import LossSuite, example_loss_input
from neuropbr_losses.bce import Options
from neuropbr_losses.bce.loss import BceLoss, divergence


class TestBce(LossSuite):
    use = "bce"
    option_sets = ({}, {"on_weight": 5.0}, {"map": "roughness"}, {"map": "albedo"})


@pytest.mark.parametrize(("probability", "truth"), [(0.5, 1.0), (0.25, 0.0), (0.9, 0.3), (0.3, 0.3)])
def test_divergence_in_closed_form(probability: float, truth: float) -> None:
    logit = torch.tensor(math.log(probability / (1 - probability)), dtype=torch.float64)
    expected = truth * math.log(truth / probability) if truth > 0 else 0.0
    expected += (1 - truth) * math.log((1 - truth) / (1 - probability)) if truth < 1 else 0.0
    found = divergence(logit, torch.tensor(truth, dtype=torch.float64))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_gradient_is_the_error_even_where_the_sigmoid_is_flat() -> None:
    logits = torch.tensor([-60.0, 60.0, 0.0]).requires_grad_()
    divergence(logits, torch.tensor([1.0, 0.0, 1.0])).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([-1.0, 1.0, -0.5]))


def test_a_constant_settles_at_the_mean_and_not_at_the_median() -> None:
    """Three quarters of the pixels are 0: the least absolute error is at 0, the least cross-entropy at a quarter."""
    truth = torch.tensor([0.0, 0.0, 0.0, 1.0])
    constants = torch.linspace(0.05, 0.95, 19)
    costs = torch.stack([divergence(torch.logit(c).expand(4), truth).mean() for c in constants])
    assert constants[costs.argmin()].item() == pytest.approx(0.25)


def test_pixels_that_are_on_count_by_their_weight() -> None:
    """One pixel on, one off, one half on, all predicted as one half, and one invalid pixel."""
    x = replace(
        example_loss_input(("metallic",), batch=1, size=(1, 4)),
        prediction=Prediction({}, {"metallic": torch.zeros(1, 1, 1, 4)}, {}),
        target={"metallic": torch.tensor([1.0, 0.0, 0.5, 1.0]).view(1, 1, 1, 4)},
        valid=torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 4),
    )
    result = BceLoss(Options(on_weight=4.0), LossSetup(MAP_NAMES, 4))(x)
    assert result.total.item() == pytest.approx((4 + 1 + 0) * math.log(2) / 3)
    assert set(result.terms) == {"metallic"}


def test_it_takes_logits_of_half_precision() -> None:
    x = example_loss_input(("metallic",), batch=1, size=(4, 4))
    half = Prediction({}, {"metallic": x.prediction.logits["metallic"].detach().bfloat16()}, {})
    total = BceLoss(Options(), LossSetup(MAP_NAMES, 4))(replace(x, prediction=half)).total
    reference = F.binary_cross_entropy_with_logits(half.logits["metallic"].float(), x.target["metallic"])
    assert total.dtype == torch.float32
    assert total < reference


def test_a_generator_without_the_map_is_refused() -> None:
    with pytest.raises(ModelError, match="loss bce: the generator predicts no metallic map, only albedo, normal; name"):
        BceLoss(Options(), LossSetup(("albedo", "normal"), 32))
