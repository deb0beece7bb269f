import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neuropbr_core.evaluation.grid import comparison_grid, stack_grids
from neuropbr_core.evaluation.tiles import Picture, heat_colors
from neuropbr_core.maps import MAPS


def truth(size: int = 64) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    maps = {name: torch.rand((spec.channels, size, size), generator=random) for name, spec in MAPS.items()}
    maps["normal"] = F.normalize(maps["normal"] + torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1), dim=0)
    return maps


def draw(size: int = 64, views: int = 3, **changes: object) -> Picture:
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
    picture = draw(size)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert 700 <= picture.shape[1] <= 1100


def test_prediction_and_target_are_shown_pixel_for_pixel() -> None:
    target = truth(256)
    prediction = {**target, "albedo": target["albedo"].flip(1)}
    picture = draw(256, prediction=prediction, target=target)
    for shown in (target["albedo"], prediction["albedo"], target["roughness"], (target["normal"] + 1) / 2):
        tile = (shown.expand(3, -1, -1).permute(1, 2, 0) * 255).round().byte().numpy()
        assert contains(picture, tile)


def test_small_samples_are_enlarged_by_whole_pixels() -> None:
    target = truth(64)
    tile = (target["albedo"].permute(1, 2, 0) * 255).round().byte().numpy()
    assert contains(draw(64), tile.repeat(4, axis=0).repeat(4, axis=1))


def test_no_error_is_cold_and_the_limit_is_hot() -> None:
    cold = heat_colors(np.zeros((256, 256)))
    hot = heat_colors(np.ones((256, 256)))
    target = {name: torch.zeros_like(value) for name, value in truth().items() if name != "normal"}
    perfect = draw(prediction=target, target=target)
    assert contains(perfect, cold)
    assert not contains(perfect, hot)
    wrong = {**target, "albedo": target["albedo"] + 0.25}
    assert contains(draw(prediction=wrong, target=target), hot)


def test_pixels_that_do_not_count_are_hatched_in_every_tile() -> None:
    nothing = draw(valid=torch.zeros(1, 64, 64))
    everything = draw()
    tile = (truth()["albedo"].permute(1, 2, 0) * 255).round().byte().numpy().repeat(4, axis=0).repeat(4, axis=1)
    assert contains(everything, tile)
    assert not contains(nothing, tile)
    dark = (nothing == 44).all(axis=2).sum()
    light = (nothing == 66).all(axis=2).sum()
    # Three tiles for each of four maps.
    assert dark + light >= 12 * 256 * 256


def test_pixels_that_a_view_does_not_see_are_hatched() -> None:
    hidden = draw(visible=torch.zeros(3, 1, 64, 64))
    grey = np.full((20, 20, 3), 128, np.uint8)
    assert contains(draw(), grey)
    assert not contains(hidden, grey)


def test_values_that_are_not_finite_are_magenta() -> None:
    target = truth()
    broken = {name: value.clone() for name, value in target.items()}
    broken["roughness"][:] = math.nan
    magenta = np.full((256, 256, 3), (255, 0, 255), np.uint8)
    assert contains(draw(prediction=broken, target=target), magenta)
    assert not contains(draw(), magenta)


def test_any_number_of_views_and_any_subset_of_maps() -> None:
    target = truth()
    single_view = draw(views=1)
    many_views = draw(views=13)
    single_map = draw(views=1, prediction={"albedo": target["albedo"]})
    assert many_views.shape[0] > single_view.shape[0] > single_map.shape[0]
    assert single_view.shape[1] == many_views.shape[1]


def test_views_may_have_another_size_than_maps_and_need_not_be_square() -> None:
    picture = draw(views=2, target=truth(), valid=torch.ones(1, 64, 64))
    views = torch.full((2, 3, 16, 32), 0.5)
    assert comparison_grid(views, truth(), truth(), torch.ones(1, 64, 64)).shape[0] < picture.shape[0]
    wide = {name: value[:, :32] for name, value in truth().items()}
    assert comparison_grid(views, wide, wide, torch.ones(1, 32, 64)).shape[1] == picture.shape[1]


def test_a_title_is_a_line_of_its_own() -> None:
    assert draw(title="sample_0001 · brick").shape[0] > draw().shape[0]


def test_stacked_grids_keep_every_sample() -> None:
    small = draw(100)
    large = draw(256)
    stacked = stack_grids([small, large])
    assert stacked.shape == (small.shape[0] + large.shape[0], max(small.shape[1], large.shape[1]), 3)
    np.testing.assert_array_equal(stacked[: small.shape[0], : small.shape[1]], small)
    np.testing.assert_array_equal(stacked[small.shape[0] + 2 :, : large.shape[1]], large[2:])


def test_stacking_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="stack_grids: no pictures; give at least one"):
        stack_grids([])
