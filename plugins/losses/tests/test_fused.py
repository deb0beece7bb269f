"""Losses that are computed together: what each implementation gives, and how losses mix with others."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup, Maps
from neuropbr_core.errors import ModelError
from neuropbr_core.evaluation.metrics import step_metrics
from neuropbr_core.maps import MAP_NAMES, MAPS
from neuropbr_core.testing import example_loss_input
from neuropbr_core.testing.loss import LossSuite
from neuropbr_losses import l1, normal, ssim
from neuropbr_losses.fused import tiles
from neuropbr_losses.fused.measures import Job, Measure, gaussian_taps
from neuropbr_losses.fused.reference import evaluate_plainly
from neuropbr_losses.fused.together import FusedMeasures, evaluate
from neuropbr_losses.l1.loss import L1Loss
from neuropbr_losses.normal.loss import NormalLoss
from neuropbr_losses.ssim.loss import SsimLoss

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "reconstruction.py"
SETUP = LossSetup(MAP_NAMES, 64)
LOSSES = (
    *(Measure("l1", name) for name in MAP_NAMES),
    Measure("ssim", "albedo", gaussian_taps(11, 1.5)),
    Measure("ssim", "normal", gaussian_taps(5, 0.8)),
    Measure("cosine", "normal"),
    Measure("angle", "normal"),
)
LOGS = (Measure("ssim", "roughness", gaussian_taps(11, 1.5)), Measure("ssim", "normal", gaussian_taps(11, 1.5)))
JOB = Job.of(LOSSES, LOGS)

SIZES = [(64, 64), (33, 47), (6, 130), (150, 71)]
"""A crop, odd sizes, the smallest that a window fits into, and several tiles."""


def maps_and_mask(
    size: tuple[int, int], dtype: torch.dtype, *, valid: str = "some", seed: int = 0
) -> tuple[Maps, Maps, Tensor]:
    """Predicted maps that take gradients, true maps, and a mask with an image of which nothing is valid."""
    random = torch.Generator().manual_seed(seed)
    maps: list[Maps] = []
    for _ in range(2):
        drawn: Maps = {}
        for name in MAP_NAMES:
            values = torch.rand(3, MAPS[name].channels, *size, generator=random, dtype=torch.float64)
            if name == "normal":
                values = F.normalize(values * 2 - 1, dim=1)
            drawn[name] = values.to(dtype)
        maps.append(drawn)
    prediction, target = maps
    mask = torch.ones(3, 1, *size)
    if valid == "some":
        mask = (torch.rand(3, 1, *size, generator=random) < 0.7).float()
        mask[-1] = 0
    return {name: values.requires_grad_() for name, values in prediction.items()}, target, mask


def gradients(values: Tensor, prediction: Maps) -> Maps:
    """Gradients of a sum in which every value counts differently."""
    weights = torch.arange(1, len(values) + 1, device=values.device, dtype=values.dtype)
    return dict(zip(prediction, torch.autograd.grad((weights * values).sum(), list(prediction.values())), strict=True))


@pytest.mark.parametrize("valid", ["all", "some"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 1e-2)]
)
def test_values_and_gradients_are_those_of_the_reference(
    size: tuple[int, int], valid: str, dtype: torch.dtype, tolerance: float
) -> None:
    prediction, target, mask = maps_and_mask(size, dtype, valid=valid)
    expected = evaluate_plainly(prediction, target, mask, JOB)
    values = evaluate(prediction, target, mask, JOB)
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(values, expected, rtol=0, atol=min(tolerance, 2e-6))
    expected_gradients = gradients(expected, prediction)
    for name, gradient in gradients(values, prediction).items():
        assert gradient.dtype == dtype
        scale = expected_gradients[name].abs().max().item()
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=0, atol=tolerance * scale)


@pytest.mark.slow
def test_gradient_of_the_reference_is_the_slope_of_its_values() -> None:
    """The reference is differentiated by autograd; gradcheck compares it, and the tiles, with finite differences."""
    prediction, target, mask = maps_and_mask((9, 12), torch.float64)
    for evaluator in (evaluate, evaluate_plainly):

        def values(*maps: Tensor, evaluator: Any = evaluator) -> Tensor:
            return evaluator(dict(zip(MAP_NAMES, maps, strict=True)), target, mask, Job.of(LOSSES[:-1]))[: len(LOSSES)]

        # Along one random direction: element by element takes minutes.
        assert torch.autograd.gradcheck(values, [prediction[name] for name in MAP_NAMES], fast_mode=True)


def test_maps_that_are_only_logged_get_no_gradient_at_all() -> None:
    """Zeros would let an optimiser decay the weights of a head that no loss looks at, by the interval of the logs."""
    prediction, target, mask = maps_and_mask((20, 20), torch.float32)
    evaluate(prediction, target, mask, Job.of(LOSSES[:1], LOGS))[0].backward()
    assert prediction["albedo"].grad is not None
    assert all(prediction[name].grad is None for name in MAP_NAMES if name != "albedo")


def test_logged_measures_have_no_gradient() -> None:
    prediction, target, mask = maps_and_mask((20, 20), torch.float32)
    for job in (Job.of(LOSSES[:1]), Job.of(LOSSES[:1], LOGS)):
        total = evaluate(prediction, target, mask, job).sum()
        (gradient,) = torch.autograd.grad(total, [prediction["albedo"]])
        assert torch.equal(gradient.sign(), torch.where(mask == 0, 0, (prediction["albedo"] - target["albedo"]).sign()))


def test_nothing_is_kept_but_the_maps_and_a_gradient_of_ssim() -> None:
    prediction, target, mask = maps_and_mask((64, 64), torch.float32)
    own = {tensor.data_ptr() for tensor in (*prediction.values(), *target.values(), mask)}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        evaluate(prediction, target, mask, Job.of(LOSSES))
    assert sum(kept.values()) == prediction["albedo"].nbytes + prediction["normal"].nbytes
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), torch.no_grad():
        evaluate(prediction, target, mask, Job.of(LOSSES))
    assert not kept


def test_maps_are_cut_into_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is worked on together, the values are the same but for the order of sums."""
    prediction, target, mask = maps_and_mask((70, 45), torch.float64)
    expected = evaluate(prediction, target, mask, JOB)
    expected_gradients = gradients(expected, prediction)
    monkeypatch.setattr(tiles, "CACHED", 300)
    monkeypatch.setattr(tiles, "TILE", 16)
    tiles._bands.cache_clear()
    values = evaluate(prediction, target, mask, JOB)
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
    for name, gradient in gradients(values, prediction).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-9, atol=1e-15)
    tiles._bands.cache_clear()


def test_equal_maps_are_perfect_to_the_last_bit() -> None:
    _, target, mask = maps_and_mask((64, 64), torch.float32)
    values = evaluate(target, target, mask, JOB)
    torch.testing.assert_close(values, torch.zeros_like(values), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps: maps["albedo"][..., 1:], r"'albedo' is predicted as \(3, 3, 20, 20\), but its target is"),
        (None, "a window of 11 pixels does not fit into a map of 4×20; maps must have at least 6 pixels on a side"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(change: Any, message: str) -> None:
    size = (20, 20) if change is not None else (20, 4)
    prediction, target, mask = maps_and_mask(size, torch.float32)
    if change is not None:
        target["albedo"] = change(target)
    with pytest.raises(ModelError, match=message):
        evaluate(prediction, target, mask, JOB)


class _Alone(Loss):
    """A loss as a group of one, for the conformance suite."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.fused = FusedMeasures([loss])

    def forward(self, x: LossInput, critic: nn.Module | None = None) -> LossResult:
        return self.fused(x).results[0]


class FusedSuite(LossSuite):
    """Everything that the core relies on in a loss holds for the fused form, too."""

    def create(self, options: Any, **context: Any) -> Any:
        return _Alone(super().create(options, **context))


class TestFusedL1(FusedSuite):
    use = "l1"
    option_sets = ({}, {"albedo": 2.0, "normal": 0.0})


class TestFusedSsim(FusedSuite):
    use = "ssim"
    option_sets = ({}, {"maps": ("albedo", "normal"), "window": 5, "sigma": 0.8})


class TestFusedNormal(FusedSuite):
    use = "normal"
    option_sets = ({}, {"form": "angle"})


def losses() -> list[Loss]:
    return [
        L1Loss(l1.Options(roughness=2.0), SETUP),
        SsimLoss(ssim.Options(maps=("albedo", "normal")), SETUP),
        NormalLoss(normal.Options(), SETUP),
        NormalLoss(normal.Options(form="angle"), SETUP),
    ]


def test_results_are_those_of_the_losses() -> None:
    x = example_loss_input(size=(64, 64))
    together = FusedMeasures(losses())(x, measured=True)
    for loss, result in zip(losses(), together.results, strict=True):
        expected = loss(x)
        torch.testing.assert_close(result.total, expected.total, rtol=0, atol=2e-6)
        assert list(result.terms) == list(expected.terms)
        for name, value in expected.terms.items():
            torch.testing.assert_close(result.terms[name], value, rtol=0, atol=2e-6)


def test_metrics_are_those_of_a_step() -> None:
    x = example_loss_input(size=(64, 64))
    expected = step_metrics(x.prediction.maps, x.target, x.valid)
    metrics = FusedMeasures(losses()[:1])(x, measured=True).metrics
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value, rtol=0, atol=2e-5)
        assert not metrics[name].requires_grad
    nothing: Mapping[str, Tensor] = FusedMeasures(losses())(
        replace(x, valid=torch.zeros_like(x.valid)), measured=True
    ).metrics
    assert all(value.isnan() for value in nothing.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 1e-2)]
)
def test_kernels_on_the_device_give_the_values_and_gradients_of_the_reference(
    size: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    prediction, target, mask = maps_and_mask(size, dtype)
    expected = evaluate_plainly(prediction, target, mask, JOB)
    expected_gradients = gradients(expected, prediction)
    moved = {name: values.detach().cuda().requires_grad_() for name, values in prediction.items()}
    # A warning, which is an error here, would tell that the kernels do not work and the tiles stand in for them.
    values = evaluate(moved, {name: values.cuda() for name, values in target.items()}, mask.cuda(), JOB)
    torch.testing.assert_close(values.cpu(), expected, rtol=0, atol=min(tolerance, 2e-6))
    for name, gradient in gradients(values, moved).items():
        scale = expected_gradients[name].abs().max().item()
        torch.testing.assert_close(gradient.cpu(), expected_gradients[name], rtol=0, atol=tolerance * scale)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")
def test_benchmark_compares_the_same_work(tmp_path: Path) -> None:
    out = tmp_path / "reconstruction.json"
    command = [sys.executable, str(BENCHMARK), "--size", "192", "--rounds", "2", "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    versions = json.loads(out.read_text())["versions"]
    assert {"eager", "compiled", "torchmetrics", "separate", "fused"} <= set(versions)
    for name in ("torchmetrics", "separate", "fused"):
        assert versions[name]["deviation"] < 1e-5
    assert versions["fused"]["memory"] < 0.5
