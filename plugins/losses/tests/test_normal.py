"""The normal loss."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from neuropbr_core.contracts import LossSetup, Prediction
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.testing.loss import LossSuite, example_loss_input
from neuropbr_losses.normal import Options
from neuropbr_losses.normal.loss import FORMS, NormalLoss, angle, cosine_distance


class TestNormal(LossSuite):
    use = "normal"
    option_sets = ({}, {"form": "angle"})


def tilted(radians: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """One pixel, tilted from +Z towards +X."""
    return torch.tensor([math.sin(radians), 0.0, math.cos(radians)], dtype=dtype).view(1, 3, 1, 1)


@pytest.mark.parametrize("radians", [0.0, 1e-4, 0.01, 0.5, math.pi / 2, 3.0])
def test_both_forms_are_exact_at_every_angle(radians: float) -> None:
    """In float32, also where 1 - cos(angle) itself is below float32's resolution at 1."""
    straight = tilted(0.0)
    assert angle(tilted(radians), straight).item() == pytest.approx(radians, rel=1e-4, abs=1e-9)
    expected = 2 * math.sin(radians / 2) ** 2
    assert cosine_distance(tilted(radians), straight).item() == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("form", ["cosine", "angle"])
def test_gradients_equal_finite_differences(form: str) -> None:
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, 4, 3, dtype=torch.float64, generator=random) for _ in range(2))
    assert torch.autograd.gradcheck(FORMS[form], (a.requires_grad_(), b))


@pytest.mark.parametrize(("form", "slope"), [("cosine", 0.0), ("angle", 1.0)])
def test_slope_near_zero(form: str, slope: float) -> None:
    """`cosine` forgives small errors, `angle` pulls at them with full strength; neither explodes."""
    prediction = tilted(1e-5).requires_grad_()
    FORMS[form](prediction, tilted(0.0)).backward()
    assert prediction.grad is not None
    assert prediction.grad.norm().item() == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("form", ["cosine", "angle"])
def test_the_mean_is_over_valid_pixels(form: str) -> None:
    """Half of the pixels are off by 60°, a quarter is right, and the last quarter, 90° off, is not valid."""
    angles = [math.pi / 3, math.pi / 3, 0.0, math.pi / 2]
    prediction = torch.cat([tilted(radians) for radians in angles], dim=3)
    x = replace(
        example_loss_input(("normal",), batch=1, size=(1, 4)),
        prediction=Prediction({"normal": prediction}, {}, {}),
        target={"normal": tilted(0.0).expand(1, 3, 1, 4)},
        valid=torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 4),
    )
    result = NormalLoss(Options(form=form), LossSetup(MAP_NAMES, 4))(x)
    expected = {"cosine": 0.5, "angle": math.pi / 3}[form] * 2 / 3
    assert result.total.item() == pytest.approx(expected, rel=1e-5)
    assert set(result.terms) == {form}


def test_a_generator_without_normals_is_refused() -> None:
    with pytest.raises(ModelError, match="loss normal: the generator predicts no normal map, only albedo; remove"):
        NormalLoss(Options(), LossSetup(("albedo",), 32))
