"""The SSIM loss, against torchmetrics, plain autograd and finite differences."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from neuropbr_core.contracts import LossInput, LossSetup, Prediction
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.testing.loss import LossSuite, example_loss_input
from neuropbr_losses.fused.measures import gaussian_taps
from neuropbr_losses.ssim import Options
from neuropbr_losses.ssim.loss import SsimLoss, ssim_map

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "ssim.py"
SETUP = LossSetup(MAP_NAMES, 32)


class TestSsim(LossSuite):
    use = "ssim"
    option_sets = ({}, {"maps": ("roughness", "normal"), "window": 5, "sigma": 1.0})


def images(seed: int, dtype: torch.dtype = torch.float32, size: tuple[int, int] = (24, 31)) -> tuple[Tensor, Tensor]:
    """A random target, and a prediction that resembles it."""
    random = torch.Generator().manual_seed(seed)
    target = torch.rand(2, 3, *size, dtype=dtype, generator=random)
    noise = torch.randn(target.shape, dtype=dtype, generator=random)
    return (target + 0.1 * noise).clamp(0, 1), target


def albedo_input(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> LossInput:
    valid = torch.ones_like(target[:, :1]) if valid is None else valid
    x = example_loss_input(batch=len(target), size=(target.shape[2], target.shape[3]))
    return replace(x, prediction=Prediction({"albedo": prediction}, {}, {}), target={"albedo": target}, valid=valid)


def test_equals_torchmetrics() -> None:
    prediction, target = images(0)
    _, expected = structural_similarity_index_measure(
        prediction, target, data_range=1.0, sigma=1.5, return_full_image=True, reduction="none"
    )
    torch.testing.assert_close(ssim_map(prediction, target, gaussian_taps(11, 1.5)), expected, rtol=0, atol=2e-5)
    total = SsimLoss(Options(), SETUP)(albedo_input(prediction, target)).total
    torch.testing.assert_close(total, 1 - expected.mean(), rtol=0, atol=1e-5)


def test_equals_the_plain_version_in_value_and_gradient() -> None:
    prediction, target = images(1, torch.float64)
    weights = torch.randn(target.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    plain = runpy.run_path(str(BENCHMARK))["depthwise_map"]
    results = []
    for version in (plain, lambda x, y: ssim_map(x, y, gaussian_taps(11, 1.5))):
        leaf = prediction.clone().requires_grad_()
        value = version(leaf, target)
        results.append((value.detach(), *torch.autograd.grad((value * weights).sum(), leaf)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("window", "size"), [(3, (2, 5)), (5, (7, 6))])
def test_gradient_equals_finite_differences(window: int, size: tuple[int, int]) -> None:
    prediction, target = images(3, torch.float64, size)
    taps = gaussian_taps(window, 0.9)
    assert torch.autograd.gradcheck(lambda x: ssim_map(x, target, taps), prediction.requires_grad_())


def test_constant_images_have_the_closed_form() -> None:
    """Without variance only the luminance term is left: (2ab + C1) / (a² + b² + C1)."""
    a, b = torch.full((1, 3, 16, 16), 0.3), torch.full((1, 3, 16, 16), 0.7)
    expected = (2 * 0.3 * 0.7 + 1e-4) / (0.3**2 + 0.7**2 + 1e-4)
    total = SsimLoss(Options(), SETUP)(albedo_input(a, b)).total
    assert total.item() == pytest.approx(1 - expected, abs=1e-4)


def test_taps_are_a_normalised_symmetric_gaussian() -> None:
    taps = gaussian_taps(5, 1.0)
    assert sum(taps) == pytest.approx(1)
    assert taps == pytest.approx(taps[::-1])
    assert taps[2] / taps[0] == pytest.approx(7.38905610, rel=1e-6)  # exp(2² / 2)


def test_windows_across_the_mask_see_no_difference_there() -> None:
    """With a right prediction on every valid pixel the loss is zero, up to the mask's edge."""
    _, target = images(4)
    valid = torch.ones_like(target[:, :1])
    valid[..., 10:] = 0
    total = SsimLoss(Options(), SETUP)(albedo_input(torch.where(valid == 1, target, 1 - target), target, valid)).total
    assert total.item() == pytest.approx(0, abs=1e-6)


def test_normals_are_scaled_to_the_data_range() -> None:
    """A normal n scores as the albedo (n + 1) / 2 does."""
    x = example_loss_input(valid="all")
    of_normal = SsimLoss(Options(maps=("normal",)), SETUP)(x).total
    albedo = albedo_input(*((maps["normal"] + 1) / 2 for maps in (x.prediction.maps, x.target)))
    torch.testing.assert_close(of_normal, SsimLoss(Options(), SETUP)(albedo).total)


def test_total_is_the_mean_of_its_maps() -> None:
    result = SsimLoss(Options(maps=("albedo", "metallic")), SETUP)(example_loss_input())
    assert set(result.terms) == {"albedo", "metallic"}
    torch.testing.assert_close(result.total.detach(), sum(result.terms.values()) / 2)


def test_half_precision_input_is_computed_in_float32() -> None:
    prediction, target = (image.bfloat16() for image in images(5))
    loss = SsimLoss(Options(), SETUP)
    with torch.autocast("cpu", torch.bfloat16):
        total = loss(albedo_input(prediction, target)).total
    assert torch.equal(total, loss(albedo_input(prediction.float(), target.float())).total)


@pytest.mark.parametrize(
    ("options", "setup", "message"),
    [
        (Options(), LossSetup(("roughness",), 32), "maps: albedo is not predicted .* it predicts roughness: choose"),
        (Options(window=10), SETUP, "window is 10, but must be odd; take 11"),
        (Options(), LossSetup(MAP_NAMES, 5), "window 11 needs maps of at least 6 pixels, .* generator's are 5"),
    ],
)
def test_what_cannot_work_is_refused(options: Options, setup: LossSetup, message: str) -> None:
    with pytest.raises(ModelError, match=f"loss ssim: {message}"):
        SsimLoss(options, setup)


def test_benchmark_runs_and_shows_the_saved_memory(tmp_path: Path) -> None:
    out = tmp_path / "ssim.json"
    command = [sys.executable, str(BENCHMARK), "--size", "64", "--rounds", "1", "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    versions = json.loads(out.read_text())["versions"]
    assert set(versions) == {"depthwise", "torchmetrics", "ours"}
    assert versions["ours"]["saved_memory"] < 0.6
    assert versions["ours"]["deviation"] < 1e-5
