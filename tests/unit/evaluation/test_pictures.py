import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neuropbr_core.evaluation.pictures import MAX_SIDE, sample_pictures
from neuropbr_core.evaluation.tiles import ERROR_LIMITS, Picture, heat_colors
from neuropbr_core.maps import MAPS


def maps(size: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    values = {name: torch.rand((spec.channels, size, size), generator=random) for name, spec in MAPS.items()}
    values["normal"] = F.normalize(values["normal"] + torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1), dim=0)
    return values


def draw(prediction: dict[str, Tensor], target: dict[str, Tensor], valid: Tensor | None = None) -> dict[str, Picture]:
    size = target["albedo"].shape[-1]
    views = torch.linspace(0, 1, 3 * 3 * size * size).view(3, 3, size, size)
    everywhere = torch.ones(1, size, size)
    if valid is None:
        valid = everywhere
    return sample_pictures(views, prediction, target, valid, everywhere.expand(3, 1, -1, -1))


def test_views_pairs_and_errors_are_drawn_of_every_map() -> None:
    pictures = draw(maps(32), maps(32))
    assert set(pictures) == {"views", *MAPS, *(f"{name}_error" for name in MAPS)}
    assert pictures["views"].shape == (32, 3 * 32 + 2 * 4, 3)
    assert pictures["albedo"].shape == (32, 2 * 32 + 4, 3)
    assert pictures["albedo_error"].shape == (32, 32, 3)
    assert all(picture.dtype == np.uint8 for picture in pictures.values())


def test_prediction_is_left_of_the_truth_pixel_for_pixel() -> None:
    target = maps(32)
    prediction = {**target, "roughness": 1 - target["roughness"]}
    picture = draw(prediction, target)["roughness"]
    for shown, part in ((prediction, picture[:, :32]), (target, picture[:, -32:])):
        expected = (shown["roughness"].expand(3, -1, -1).permute(1, 2, 0) * 255).round().byte().numpy()
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize(("name", "error"), [("albedo", 0.1), ("metallic", 0.4)])
def test_the_heat_is_the_error_on_the_maps_own_scale(name: str, error: float) -> None:
    target = {**maps(16), name: torch.full((MAPS[name].channels, 16, 16), 0.25)}
    picture = draw({name: target[name] + error}, target)[f"{name}_error"]
    expected = heat_colors(np.array([error / ERROR_LIMITS[name]]))
    assert np.abs(picture.astype(int) - expected).max() <= 1


def test_pixels_that_no_view_sees_are_hatched() -> None:
    valid = torch.ones(1, 16, 16)
    valid[:, :8] = 0
    picture = draw(maps(16), maps(16), valid)["albedo_error"]
    assert set(np.unique(picture[:8])) == {44, 66}
    assert np.array_equal(picture[8:], np.broadcast_to(heat_colors(np.zeros(1)), (8, 16, 3)))


def test_large_samples_are_shrunk() -> None:
    size = MAX_SIDE + 88
    pictures = draw({"albedo": torch.rand(3, size, size)}, {"albedo": torch.rand(3, size, size)})
    assert pictures["albedo"].shape == (MAX_SIDE, 2 * MAX_SIDE + 4, 3)
