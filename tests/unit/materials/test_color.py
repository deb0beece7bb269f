import pytest
import torch

from neuropbr_core.materials.color import linear_to_srgb, luminance, srgb_to_linear


@pytest.mark.parametrize(("encoded", "linear"), [(0.0, 0.0), (0.04, 0.04 / 12.92), (0.5, 0.21404114), (1.0, 1.0)])
def test_decodes_known_values(encoded, linear):
    assert srgb_to_linear(torch.tensor(encoded)).item() == pytest.approx(linear, abs=1e-6)


def test_middle_grey_encodes_to_what_photographers_know():
    assert round(linear_to_srgb(torch.tensor(0.18)).item() * 255) == 118


def test_each_undoes_the_other():
    values = torch.linspace(-0.1, 1.5, 1001, dtype=torch.float64)
    torch.testing.assert_close(srgb_to_linear(linear_to_srgb(values)), values, atol=1e-6, rtol=0)


def test_luminance_weighs_the_primaries_of_bt_709():
    primaries = torch.eye(3).view(3, 3, 1, 1)
    torch.testing.assert_close(luminance(primaries).flatten(), torch.tensor([0.2126, 0.7152, 0.0722]))
    assert luminance(torch.ones(3, 1, 1)).item() == pytest.approx(1)


def test_gradients_are_finite_everywhere():
    values = torch.linspace(0, 1, 101, requires_grad=True)
    (linear_to_srgb(values).sum() + srgb_to_linear(values).sum()).backward()
    assert values.grad.isfinite().all()
