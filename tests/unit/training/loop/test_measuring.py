import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neuropbr_core.evaluation.metrics import measure
from neuropbr_core.maps import MAPS
from neuropbr_core.training.loop.measuring import step_metrics, with_overall


def maps(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    made = {name: torch.rand((3, spec.channels, 16, 16), generator=random) for name, spec in MAPS.items()}
    return {**made, "normal": F.normalize(made["normal"] + torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1), dim=1)}


def test_a_step_is_measured_like_a_validation() -> None:
    valid = torch.ones(3, 1, 16, 16)
    found = step_metrics(maps(0), maps(1), valid)
    assert set(found) == {f"{name}/{metric}" for name in MAPS for metric in ("mae", "ssim")} | {"normal/angle"}
    for name, value in measure(maps(0), maps(1), valid).items():
        if name in found:
            torch.testing.assert_close(found[name], value.mean())
    assert all(value.ndim == 0 and not value.requires_grad for value in found.values())


def test_images_without_a_valid_pixel_do_not_count() -> None:
    valid = torch.ones(3, 1, 16, 16)
    valid[1] = 0
    both = torch.tensor([0, 2])
    rows = measure(maps(0), maps(1), torch.ones(3, 1, 16, 16))
    found = step_metrics(maps(0), maps(1), valid)
    torch.testing.assert_close(found["albedo/mae"], rows["albedo/mae"][both].mean())
    nothing = step_metrics(maps(0), maps(1), torch.zeros_like(valid))
    assert set(nothing) == set(found)
    assert all(value.isnan() for value in nothing.values())


def test_a_prediction_that_is_not_finite_shows() -> None:
    broken = maps(0)
    broken["albedo"][0, 0, 0, 0] = math.nan
    assert step_metrics(broken, maps(1), torch.ones(3, 1, 16, 16))["albedo/mae"].isnan()


def test_overall_is_the_mean_over_the_maps() -> None:
    found = with_overall(
        {"loss": 1.0, "albedo/psnr": 20.0, "normal/psnr": 30.0, "albedo/mae": 0.5, "normal/angle": 3.0}
    )
    assert found["overall/psnr"] == 25.0
    assert found["overall/mae"] == 0.5
    assert "overall/ssim" not in found
    assert found["loss"] == 1.0
    assert with_overall({}) == {}


@pytest.mark.parametrize("missing", ["albedo", "normal"])
def test_any_subset_of_the_maps_can_be_measured(missing: str) -> None:
    prediction = {name: value for name, value in maps(0).items() if name != missing}
    found = step_metrics(prediction, maps(1), torch.ones(3, 1, 16, 16))
    assert not any(name.startswith(missing) for name in found)
