"""Fusion `concat`: the conformance suite, and what is particular to it."""

import pytest
import torch

from neuropbr_core.testing.fusion import FusionSuite
from neuropbr_fusion.concat import Options
from neuropbr_fusion.concat.statistics import StatisticsFusion
from neuropbr_fusion.pooling import view_statistics


class TestConcat(FusionSuite):
    use = "concat"
    option_sets = ({}, {"out_channels": 6})


def pixel(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)


def test_statistics_of_one_pixel() -> None:
    mean, maximum, deviation = view_statistics(pixel(1, 4, 9), pixel(1, 1, 0)).flatten()
    assert mean.item() == pytest.approx(2.5)
    assert maximum.item() == 4
    assert deviation.item() == pytest.approx((1.5**2 + 1e-4) ** 0.5 - 1e-2, abs=1e-5)


def test_statistics_are_weighted_by_visibility() -> None:
    mean, maximum, deviation = view_statistics(pixel(0, 4), pixel(0.75, 0.25)).flatten()
    assert mean.item() == pytest.approx(1)
    assert maximum.item() == 4
    assert deviation.item() == pytest.approx((3 + 1e-4) ** 0.5 - 1e-2, abs=1e-5)


def test_maximum_may_be_negative() -> None:
    assert view_statistics(pixel(-3, -2, 5), pixel(1, 1, 0)).flatten()[1] == -2


def test_nothing_seen_gives_zeros() -> None:
    assert torch.equal(view_statistics(pixel(float("nan"), 7), pixel(0, 0)), torch.zeros(1, 3, 1, 1))


def test_equal_views_have_no_deviation_and_no_gradient_of_it() -> None:
    values = pixel(2, 2).requires_grad_()
    deviation = view_statistics(values, pixel(1, 1)).flatten()[2]
    deviation.backward()
    assert deviation == 0
    assert torch.equal(values.grad, torch.zeros_like(values))


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 3, 2, 1, 2, generator=generator, dtype=torch.float64)
    visible = torch.rand(1, 3, 1, 1, 2, generator=generator, dtype=torch.float64)
    visible[0, 1, 0, 0, 0] = 0
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: view_statistics(x, visible), values)


def test_large_half_precision_features_do_not_overflow() -> None:
    statistics = view_statistics(pixel(-500, 500).half(), pixel(1, 1).half())
    assert statistics.dtype == torch.float16
    torch.testing.assert_close(statistics.flatten(), torch.tensor([0, 500, 500], dtype=torch.float16))


def test_order_of_statistics_in_the_mix() -> None:
    fusion = StatisticsFusion(Options(out_channels=5), 4)
    assert fusion.mix[0].weight.shape == (5, 12, 1, 1)
    assert fusion.out_channels == 5
    assert StatisticsFusion(Options(), 4).out_channels == 4
