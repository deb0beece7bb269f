import math

import numpy as np
import pytest
import torch

from neuropbr_core.evaluation.tiles import ERROR_LIMITS, error_map, error_tile, heat_colors, tile
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
