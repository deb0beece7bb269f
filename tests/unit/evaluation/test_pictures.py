"""Tiles, single pictures and comparison grids."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neuropbr_core.evaluation.pictures import (
    ERROR_LIMITS,
    MAX_SIDE,
    Picture,
    comparison_grid,
    error_map,
    error_tile,
    heat_colors,
    sample_pictures,
    stack_grids,
    tile,
)
from neuropbr_core.maps import MAPS


def test_heat_grows_lighter_all_the_way_and_is_clipped() -> None:
    colors = heat_colors(np.linspace(0, 1, 200)).astype(float) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    lightness = linear @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > 0).sum() > 150
    assert (np.diff(lightness) >= 0).all()
    np.testing.assert_array_equal(heat_colors(np.array([-1.0, 7.0])), heat_colors(np.array([0.0, 1.0])))


def test_error_maps_are_absolute_or_degrees() -> None:
    assert set(ERROR_LIMITS) == set(MAPS)
    difference = error_map("albedo", torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), 0.25))
    assert difference.equal(torch.full((4, 4), 0.25))
    up = torch.zeros(3, 4, 4)
    up[2] = 1
    side = torch.zeros(3, 4, 4)
    side[0] = 1
    torch.testing.assert_close(error_map("normal", side, up), torch.full((4, 4), 90.0))


@pytest.mark.parametrize("name", list(ERROR_LIMITS))
def test_errors_that_are_not_finite_are_magenta_and_leave_the_others_alone(name: str) -> None:
    error = np.array([[0.0, math.inf, math.nan]], np.float32)
    colors = error_tile(name, error)[0]
    assert colors[0].tolist() == heat_colors(np.zeros(1))[0].tolist()
    assert colors[1:].tolist() == [[255, 0, 255]] * 2


def test_a_tile_is_enlarged_with_hard_edges_and_shrunk_smoothly() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:, 2:] = 200
    inside = np.ones((4, 4), bool)
    enlarged = np.asarray(tile(picture, inside, (10, 10)))
    assert set(np.unique(enlarged)) == {0, 200}
    shrunk = np.asarray(tile(picture, inside, (3, 3)))
    assert 0 < shrunk[1, 1, 0] < 200


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


def truth(size: int = 64) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    maps = {name: torch.rand((spec.channels, size, size), generator=random) for name, spec in MAPS.items()}
    maps["normal"] = F.normalize(maps["normal"] + torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1), dim=0)
    return maps


def draw_grid(size: int = 64, views: int = 3, **changes: object) -> Picture:
    maps = truth(size)
    arguments: dict[str, object] = {
        "views": torch.full((views, 3, size, size), 0.5),
        "prediction": maps,
        "target": maps,
        "valid": torch.ones(1, size, size),
    }
    return comparison_grid(**{**arguments, **changes})  # type: ignore[arg-type]


def contains(picture: Picture, tile: Picture) -> bool:
    """Return whether `tile` is somewhere in `picture`."""
    height, width = tile.shape[:2]
    # The first twelve pixels of the tile give a few places at which all of it is compared.
    windows = np.lib.stride_tricks.sliding_window_view(picture, (1, 12, 3))[:, :, 0, 0]
    candidates = np.nonzero((windows == tile[0, :12]).all(axis=(2, 3)))
    places = zip(*candidates, strict=True)
    return any(np.array_equal(picture[y : y + height, x : x + width], tile) for y, x in places)


@pytest.mark.parametrize("size", [16, 64, 100, 256, 300, 1024])
def test_the_picture_is_at_most_1100_wide(size: int) -> None:
    picture = draw_grid(size)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert 700 <= picture.shape[1] <= 1100


def test_prediction_and_target_are_shown_pixel_for_pixel() -> None:
    target = truth(256)
    prediction = {**target, "albedo": target["albedo"].flip(1)}
    picture = draw_grid(256, prediction=prediction, target=target)
    for shown in (target["albedo"], prediction["albedo"], target["roughness"], (target["normal"] + 1) / 2):
        tile = (shown.expand(3, -1, -1).permute(1, 2, 0) * 255).round().byte().numpy()
        assert contains(picture, tile)


def test_small_samples_are_enlarged_by_whole_pixels() -> None:
    target = truth(64)
    tile = (target["albedo"].permute(1, 2, 0) * 255).round().byte().numpy()
    assert contains(draw_grid(64), tile.repeat(4, axis=0).repeat(4, axis=1))


def test_no_error_is_cold_and_the_limit_is_hot() -> None:
    cold = heat_colors(np.zeros((256, 256)))
    hot = heat_colors(np.ones((256, 256)))
    target = {name: torch.zeros_like(value) for name, value in truth().items() if name != "normal"}
    perfect = draw_grid(prediction=target, target=target)
    assert contains(perfect, cold)
    assert not contains(perfect, hot)
    wrong = {**target, "albedo": target["albedo"] + 0.25}
    assert contains(draw_grid(prediction=wrong, target=target), hot)


def test_pixels_that_do_not_count_are_hatched_in_every_tile() -> None:
    nothing = draw_grid(valid=torch.zeros(1, 64, 64))
    everything = draw_grid()
    tile = (truth()["albedo"].permute(1, 2, 0) * 255).round().byte().numpy().repeat(4, axis=0).repeat(4, axis=1)
    assert contains(everything, tile)
    assert not contains(nothing, tile)
    dark = (nothing == 44).all(axis=2).sum()
    light = (nothing == 66).all(axis=2).sum()
    # Three tiles for each of four maps.
    assert dark + light >= 12 * 256 * 256


def test_pixels_that_a_view_does_not_see_are_hatched() -> None:
    hidden = draw_grid(visible=torch.zeros(3, 1, 64, 64))
    grey = np.full((20, 20, 3), 128, np.uint8)
    assert contains(draw_grid(), grey)
    assert not contains(hidden, grey)


def test_values_that_are_not_finite_are_magenta() -> None:
    target = truth()
    broken = {name: value.clone() for name, value in target.items()}
    broken["roughness"][:] = math.nan
    magenta = np.full((256, 256, 3), (255, 0, 255), np.uint8)
    assert contains(draw_grid(prediction=broken, target=target), magenta)
    assert not contains(draw_grid(), magenta)


def test_any_number_of_views_and_any_subset_of_maps() -> None:
    target = truth()
    single_view = draw_grid(views=1)
    many_views = draw_grid(views=13)
    single_map = draw_grid(views=1, prediction={"albedo": target["albedo"]})
    assert many_views.shape[0] > single_view.shape[0] > single_map.shape[0]
    assert single_view.shape[1] == many_views.shape[1]


def test_views_may_have_another_size_than_maps_and_need_not_be_square() -> None:
    picture = draw_grid(views=2, target=truth(), valid=torch.ones(1, 64, 64))
    views = torch.full((2, 3, 16, 32), 0.5)
    assert comparison_grid(views, truth(), truth(), torch.ones(1, 64, 64)).shape[0] < picture.shape[0]
    wide = {name: value[:, :32] for name, value in truth().items()}
    assert comparison_grid(views, wide, wide, torch.ones(1, 32, 64)).shape[1] == picture.shape[1]


def test_a_title_is_a_line_of_its_own() -> None:
    assert draw_grid(title="sample_0001 · brick").shape[0] > draw_grid().shape[0]


def test_stacked_grids_keep_every_sample() -> None:
    small = draw_grid(100)
    large = draw_grid(256)
    stacked = stack_grids([small, large])
    assert stacked.shape == (small.shape[0] + large.shape[0], max(small.shape[1], large.shape[1]), 3)
    np.testing.assert_array_equal(stacked[: small.shape[0], : small.shape[1]], small)
    np.testing.assert_array_equal(stacked[small.shape[0] + 2 :, : large.shape[1]], large[2:])


def test_stacking_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="stack_grids: no pictures; give at least one"):
        stack_grids([])
