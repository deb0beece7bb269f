"""Predictions and targets are in one range: the truth as the prediction is perfect by every loss and metric."""

import pytest
import torch

from neuropbr_core.contracts import LossInput, LossSetup, Prediction
from neuropbr_core.evaluation.metrics import measure
from neuropbr_core.maps import MAP_NAMES, MAPS
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.registry import default_registry
from neuropbr_core.shipped import shipped_root

LOSSES = default_registry().names("loss")


def real_maps(material: str) -> dict[str, torch.Tensor]:
    from neuropbr_core.data.images import read_map

    folder = shipped_root() / "examples" / "materials" / material
    stored = {name: torch.from_numpy(read_map(folder / spec.file_name, spec, 64))[None] for name, spec in MAPS.items()}
    return {name: decode_map(MAPS[name], value) for name, value in stored.items()}


@pytest.fixture(params=["acg_Metal053C", "acg_Rock053"])
def truth(request: pytest.FixtureRequest) -> dict[str, torch.Tensor]:
    return real_maps(request.param)


def test_targets_are_in_the_declared_ranges(truth: dict[str, torch.Tensor]) -> None:
    for name, value in truth.items():
        low, high = MAPS[name].value_range
        assert value.min() >= low
        assert value.max() <= high
        assert value.shape[1] == MAPS[name].channels
    torch.testing.assert_close(truth["normal"].norm(dim=1), torch.ones(1, 64, 64))


@pytest.mark.parametrize("name", LOSSES)
def test_every_reconstruction_loss_is_zero(name: str, truth: dict[str, torch.Tensor]) -> None:
    registry = default_registry()
    options = registry.options("loss", name)()
    loss = registry.create("loss", name, options, setup=LossSetup(MAP_NAMES, 64))
    views, ones = truth["albedo"][:, None].repeat(1, 3, 1, 1, 1), torch.ones(1, 1, 64, 64)
    logits = {name: torch.logit(truth[name], eps=1e-7) for name in MAP_NAMES if MAPS[name].activation == "sigmoid"}
    x = LossInput(Prediction(truth, logits, {}), truth, views, ones[:, None].repeat(1, 3, 1, 1, 1), ones)
    if not loss.reconstruction:
        assert name in ("distillation", "gan")
        return
    assert float(loss(x, None).total) == pytest.approx(0, abs=1e-5)


def test_every_metric_is_perfect(truth: dict[str, torch.Tensor]) -> None:
    found = measure(truth, truth, torch.ones(1, 1, 64, 64))
    perfect = {"mae": 0.0, "rmse": 0.0, "psnr": 60.0, "ssim": 1.0, "angle": 0.0, "angle_median": 0.0}
    perfect |= {"within_11": 1.0, "within_22": 1.0, "within_30": 1.0}
    assert {name.split("/")[1] for name in found} == set(perfect)
    for name, value in found.items():
        assert value.item() == pytest.approx(perfect[name.split("/")[1]], abs=1e-3), name
