import itertools

import numpy as np
import pytest
import torch

from neuropbr_core.data.batches.batch import Item, collate
from neuropbr_core.data.batches.crops import Placement, crop_matrix, place_image, place_map, whole
from neuropbr_core.data.batches.prepare import prepare
from neuropbr_core.maps import MAPS, NORMAL
from neuropbr_core.materials.encoding import encode_map
from neuropbr_core.recipe.sections import Data

SIZE, VIEWS = 8, 2
RNG = np.random.default_rng(0)
VIEW = RNG.integers(0, 256, (VIEWS, 3, SIZE, SIZE), dtype=np.uint8)
STORED = {
    name: RNG.integers(0, 256, (spec.channels, SIZE * 2, SIZE * 2), dtype=np.uint8) for name, spec in MAPS.items()
}
PLACEMENTS = [Placement(2, 3, 4, *symmetry) for symmetry in itertools.product(range(4), (False, True))]


def item(placement, homography=None):
    recorded = homography is not None
    return Item(
        ids=["clean/sample_0000"],
        materials=["oak"],
        views=torch.from_numpy(VIEW if recorded else place_image(VIEW, placement)),
        targets={name: torch.from_numpy(place_map(STORED[name], spec, placement, 2)) for name, spec in MAPS.items()},
        homographies=homography.expand(VIEWS, 3, 3) if recorded else None,
        positions=torch.tensor([[0.1, -0.2, 1.5]]).expand(VIEWS, 3) if recorded else None,
        crop_to_texture=torch.from_numpy(crop_matrix(placement, SIZE)),
    )


def prepared(*items, alignment="recorded"):
    return prepare(collate(items), Data(image_size=SIZE, output_size=SIZE * 2, alignment=alignment), "cpu")


def test_without_alignment_views_and_maps_are_decoded():
    out = prepared(item(PLACEMENTS[5]), item(PLACEMENTS[0]), alignment="none")
    assert out.views.shape == (2, VIEWS, 3, 4, 4)
    np.testing.assert_allclose(out.views[1] * 255, VIEW[:, :, 3:7, 2:6], atol=1e-4)
    assert out.directions is None
    assert out.visible.shape == (2, VIEWS, 1, 4, 4)
    assert out.valid.shape == (2, 1, 8, 8)
    assert out.visible.min() == out.valid.min() == 1
    np.testing.assert_allclose(
        out.targets["albedo"][0] * 255, place_image(STORED["albedo"], PLACEMENTS[5], 2), atol=1e-4
    )
    np.testing.assert_allclose(torch.linalg.vector_norm(out.targets["normal"], dim=1), 1, atol=1e-5)


@pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
def test_warping_a_straight_view_equals_placing_it(placement):
    out = prepared(item(placement, torch.eye(3)))
    np.testing.assert_allclose(out.views[0] * 255, place_image(VIEW, placement), atol=1e-3)
    assert out.visible.min() == out.valid.min() == 1


@pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
def test_directions_turn_with_the_crop_as_normals_do(placement):
    upright = prepared(item(whole(SIZE), torch.eye(3))).directions
    turned = prepared(item(placement, torch.eye(3))).directions
    expected = place_map(encode_map(NORMAL, upright[0, 0]).numpy(), NORMAL, placement)
    difference = encode_map(NORMAL, turned[0, 0]).int() - torch.from_numpy(expected).int()
    assert difference.abs().max() <= 1


def test_directions_point_from_the_texture_to_the_camera():
    directions = prepared(item(whole(SIZE), torch.eye(3))).directions
    u, v = 5.5 / SIZE, 1.5 / SIZE
    towards = np.array([0.1 - (u - 0.5), -0.2 - (0.5 - v), 1.5])
    np.testing.assert_allclose(directions[0, 1, :, 1, 5], towards / np.linalg.norm(towards), atol=1e-5)


def test_what_no_view_sees_is_not_valid():
    halves = torch.tensor([[1.0, 0.0, -0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # the view shows the right half
    out = prepared(item(whole(SIZE), halves))
    assert out.views[..., :3].abs().max() == 0
    assert out.visible[..., :3].max() == out.valid[..., :6].max() == 0
    assert out.visible[..., 5:].min() == out.valid[..., 10:].min() == 1
