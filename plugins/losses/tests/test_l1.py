"""The L1 loss."""

from dataclasses import replace

import pytest
import torch

from neuropbr_core.contracts import LossInput, LossSetup, Prediction
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.testing.loss import LossSuite, example_loss_input
from neuropbr_losses.l1 import Options
from neuropbr_losses.l1.loss import L1Loss


class TestL1(LossSuite):
    use = "l1"
    option_sets = ({}, {"albedo": 2.0, "metallic": 0.0})


class TestL1OfNormalsAlone(LossSuite):
    use = "l1"
    maps = ("normal",)


def constant_input(offsets: dict[str, float]) -> LossInput:
    """Prediction and target that differ by one number per map, everywhere valid."""
    x = example_loss_input(tuple(offsets), valid="all")
    maps = {name: x.target[name] + offset for name, offset in offsets.items()}
    return replace(x, prediction=Prediction(maps, {}, {}))


def test_is_the_weighted_sum_of_mean_absolute_errors() -> None:
    loss = L1Loss(Options(albedo=2.0, roughness=1.0, metallic=0.5, normal=3.0), LossSetup(MAP_NAMES, 32))
    result = loss(constant_input({"albedo": 0.1, "roughness": -0.2, "metallic": 0.4, "normal": 0.05}))
    assert {name: round(term.item(), 5) for name, term in result.terms.items()} == {
        "albedo": 0.1,
        "roughness": 0.2,
        "metallic": 0.4,
        "normal": 0.05,
    }
    assert result.total.item() == pytest.approx(2.0 * 0.1 + 0.2 + 0.5 * 0.4 + 3.0 * 0.05, abs=1e-5)


def test_each_image_weighs_the_same_however_much_of_it_is_valid() -> None:
    """Image 0 is off by 0.2 on its only valid pixel, image 1 by 0.4 everywhere, and nothing of image 2 is valid."""
    x = constant_input({"roughness": 0.2})
    prediction, target = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    prediction[0], prediction[1], prediction[2] = 0.2, 0.4, 9.0
    valid = torch.ones(3, 1, 4, 4)
    valid[0], valid[0, 0, 1, 2], valid[2] = 0, 1, 0
    x = replace(x, prediction=Prediction({"roughness": prediction}, {}, {}), target={"roughness": target}, valid=valid)
    assert L1Loss(Options(), LossSetup(("roughness",), 4))(x).total.item() == pytest.approx(0.3)


def test_a_map_of_weight_zero_is_not_looked_at() -> None:
    loss = L1Loss(Options(metallic=0.0), LossSetup(MAP_NAMES, 32))
    x = constant_input({"albedo": 0.1, "roughness": 0.0, "normal": 0.0})
    assert set(loss(x).terms) == {"albedo", "roughness", "normal"}


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ModelError, match=r"loss l1: no map is left .* predicts albedo, metallic, and each .* weight 0"):
        L1Loss(Options(albedo=0.0, metallic=0.0), LossSetup(("albedo", "metallic"), 32))
