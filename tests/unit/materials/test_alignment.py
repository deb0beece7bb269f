import math

import pytest
import torch

from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import (
    identity_frame,
    taps_needed,
    vectors_in_crop,
    view_directions,
    warp_views,
)
from neuropbr_core.materials.cameras import Camera, look_at, project, sample_cameras
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.environments import build_environment
from neuropbr_core.materials.render import Lighting, rasterize, render_view
from neuropbr_core.materials.surface import build_surface

# Each: how crop coordinates (u, v) lie in the texture, how an image is placed, and how a vector (x, y) is.
MIRROR = (
    torch.tensor([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]]),
    lambda image: image.flip(-1),
    lambda x, y: (-x, y),
)
UPSIDE_DOWN = (
    torch.tensor([[1.0, 0, 0], [0, -1, 1], [0, 0, 1]]),
    lambda image: image.flip(-2),
    lambda x, y: (x, -y),
)
TURN = (
    torch.tensor([[0.0, -1, 1], [1, 0, 0], [0, 0, 1]]),
    lambda image: torch.rot90(image, 1, (-2, -1)),
    lambda x, y: (-y, x),
)
TURN_BACK = (
    torch.tensor([[0.0, 1, 0], [-1, 0, 1], [0, 0, 1]]),
    lambda image: torch.rot90(image, -1, (-2, -1)),
    lambda x, y: (y, -x),
)
SYMMETRIES = [MIRROR, UPSIDE_DOWN, TURN, TURN_BACK]
NAMES = ["mirror", "upside down", "turn", "turn back"]


def cameras(views=3, seed=0):
    return sample_cameras(torch.Generator().manual_seed(seed), views)


def homographies(taken):
    return torch.stack([camera.homography for camera in taken])[None]


def positions(taken):
    return torch.stack([camera.position for camera in taken])[None]


def smooth_texture(size):
    u, v = torch.meshgrid(*[(torch.arange(size) + 0.5) / size * 2 * math.pi] * 2, indexing="xy")
    waves = torch.stack((torch.sin(3 * u + v), torch.cos(2 * v - u), torch.sin(4 * u) * torch.cos(3 * v)))
    return (0.5 + 0.35 * waves)[None]


def random_maps(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = {name: torch.rand(1, spec.channels, size, size, generator=generator) for name, spec in MAPS.items()}
    slopes = maps["normal"][:, :2] - 0.5
    maps["normal"] = torch.nn.functional.normalize(torch.cat((slopes, torch.ones(1, 1, size, size)), 1), dim=1)
    return maps


def turn_vectors(vectors, change):
    """Apply a change of (x, y) to vectors with three components in dimension -3."""
    x, y, z = vectors.unbind(dim=-3)
    return torch.stack((*change(x, y), z), dim=-3)


def test_identity_changes_nothing_and_sees_everything():
    views = torch.rand(2, 3, 3, 17, 17, generator=torch.Generator().manual_seed(0))
    aligned, visible = warp_views(views, torch.eye(3).repeat(2, 3, 1, 1), identity_frame(2), 17)
    torch.testing.assert_close(aligned, views, atol=1e-5, rtol=0)
    assert torch.equal(visible, torch.ones(2, 3, 1, 17, 17))


def test_a_window_is_cut_on_whole_pixels():
    views = torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    frame = torch.tensor([[[0.5, 0, 0.25], [0, 0.5, 0.125], [0, 0, 1]]])
    aligned, visible = warp_views(views, torch.eye(3).view(1, 1, 3, 3), frame, 8)
    torch.testing.assert_close(aligned, views[..., 2:10, 4:12], atol=1e-5, rtol=0)
    assert visible.min() == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_rendered_texture_comes_back(seed):
    texture, taken = smooth_texture(128), cameras(seed=seed)
    maps = random_maps(128) | {"albedo": linear_to_srgb(texture)}
    surface = build_surface(maps, 256)
    photos = [rasterize(surface, camera, 128, lambda point, _: point.reflectance.base_linear) for camera in taken]
    aligned, visible = warp_views(torch.stack(photos)[None], homographies(taken), identity_frame(1), 128)
    squared = ((aligned - texture) ** 2 * visible).sum(dim=(0, 2, 3, 4)) / (3 * visible.sum(dim=(0, 2, 3, 4)))
    assert (-10 * squared.log10()).min() > 40
    assert visible.mean() > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_the_mask_is_the_projection_of_pixel_centres(seed):
    taken, size, height, width = cameras(seed=seed), 40, 24, 24
    _, visible = warp_views(torch.ones(1, 3, 1, height, width), homographies(taken), identity_frame(1), size)
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    points = torch.cartesian_prod(centres, centres).flip(1)
    for camera, mask in zip(taken, visible[0], strict=True):
        x, y = project(camera.homography.double(), points).unbind(dim=1)
        margin = torch.stack((x * width - 0.5, width - 0.5 - x * width, y * height - 0.5, height - 0.5 - y * height))
        margin = margin.amin(dim=0).view(size, size)
        decided = (margin + 0.001).abs() > 1e-3
        assert torch.equal(mask[0][decided], (margin >= 0).float()[decided])
        assert mask.mean() > 0


def test_unseen_pixels_are_zero_and_seen_ones_are_not_darkened():
    shifted = torch.tensor([[1.0, 0, 0.3], [0, 1, 0], [0, 0, 1]]).view(1, 1, 3, 3)
    aligned, visible = warp_views(torch.ones(1, 1, 3, 10, 10), shifted, identity_frame(1), 10)
    assert torch.equal(visible[0, 0, 0, 0], torch.tensor([1.0] * 7 + [0.0] * 3))
    assert torch.equal(aligned, visible.expand(1, 1, 3, 10, 10))


def test_what_lies_behind_the_camera_is_unseen_and_finite():
    behind = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-2, 0, 1]]).view(1, 1, 3, 3)
    aligned, visible = warp_views(torch.ones(1, 1, 3, 8, 8), behind, identity_frame(1), 8)
    assert aligned.isfinite().all()
    assert visible[..., 4:].max() == 0
    _, flipped = warp_views(torch.ones(1, 1, 3, 8, 8), -torch.eye(3).view(1, 1, 3, 3), identity_frame(1), 8)
    assert flipped.max() == 0


def test_views_need_not_be_square_or_of_the_crop_s_size():
    row = torch.arange(4.0).view(1, 1, 1, 4, 1).expand(1, 1, 1, 4, 8)
    aligned, _ = warp_views(row, torch.eye(3).view(1, 1, 3, 3), identity_frame(1), 4)
    torch.testing.assert_close(aligned, row[..., ::2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("taps", [2, 3])
def test_taps_average_what_a_pixel_covers(taps):
    views = torch.rand(1, 2, 3, 8 * taps, 8 * taps, generator=torch.Generator().manual_seed(0))
    aligned, visible = warp_views(views, torch.eye(3).repeat(1, 2, 1, 1), identity_frame(1), 8, taps)
    expected = torch.nn.functional.avg_pool2d(views[0], taps)[None]
    torch.testing.assert_close(aligned, expected, atol=1e-5, rtol=0)
    assert visible.min() == 1


def test_fine_detail_averages_out_instead_of_aliasing():
    checker = (torch.arange(256)[:, None] + torch.arange(256)) % 2
    views = checker.float().expand(1, 3, 3, 256, 256)
    taken = homographies(cameras(seed=1))
    taps = taps_needed(taken, identity_frame(1), (256, 256), 48)
    once, mask = warp_views(views, taken, identity_frame(1), 48)
    often, same_mask = warp_views(views, taken, identity_frame(1), 48, taps)
    assert torch.equal(mask, same_mask)
    assert once[mask.expand_as(once) > 0].std() > 0.15
    assert often[mask.expand_as(often) > 0].std() < 0.1
    assert often[mask.expand_as(often) > 0].mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("side", "crop", "size", "expected"),
    [
        (64, 1.0, 64, 1),
        (80, 1.0, 64, 1),
        (128, 1.0, 64, 1),
        (192, 1.0, 64, 2),
        (64, 0.5, 64, 1),
        (128, 0.5, 64, 1),
        (128, 0.25, 8, 2),
        (4096, 1.0, 16, 8),
    ],
)
def test_as_many_taps_as_the_view_is_finer(side, crop, size, expected):
    frame = torch.diag(torch.tensor([crop, crop, 1.0]))[None]
    assert taps_needed(torch.eye(3).view(1, 1, 3, 3), frame, (side, side), size) == expected


def test_turned_frames_and_tilted_views_need_as_many():
    taken = homographies(cameras())
    for frame in (identity_frame(1), MIRROR[0][None], TURN[0][None]):
        assert taps_needed(taken, frame, (1024, 1024), 256) == 2
        assert taps_needed(taken, frame, (512, 512), 256) == 1


def test_autocast_costs_no_precision():
    taken = cameras()
    views = torch.rand(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = warp_views(views, homographies(taken), identity_frame(1), 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        warped = warp_views(views, homographies(taken), identity_frame(1), 32)
        directions = view_directions(positions(taken), identity_frame(1), 8)
    for a, b in zip(warped, expected, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(directions, view_directions(positions(taken), identity_frame(1), 8))


def test_directions_in_closed_form():
    position = torch.tensor([0.3, -0.1, 1.2])
    direction = view_directions(position.view(1, 1, 3), identity_frame(1), 4)[0, 0, :, 1, 3]
    # Row 1, column 3 of 4: u = 0.875, v = 0.375, so x = 0.375, y = 0.125.
    expected = position - torch.tensor([0.375, 0.125, 0.0])
    torch.testing.assert_close(direction, expected / expected.norm())


def test_directions_of_a_window_are_those_of_its_part():
    taken = cameras()
    frame = torch.tensor([[[0.5, 0, 0.25], [0, 0.5, 0.125], [0, 0, 1]]])
    whole = view_directions(positions(taken), identity_frame(1), 16)
    torch.testing.assert_close(view_directions(positions(taken), frame, 8), whole[..., 2:10, 4:12], atol=1e-6, rtol=0)


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=NAMES)
def test_a_turned_frame_turns_views_and_directions(symmetry):
    frame, place, change = symmetry
    taken = cameras()
    views = torch.rand(1, 3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    straight = warp_views(views, homographies(taken), identity_frame(1), 24)
    turned = warp_views(views, homographies(taken), frame[None], 24)
    for a, b in zip(turned, straight, strict=True):
        torch.testing.assert_close(a, place(b), atol=2e-4, rtol=0)
    directions = view_directions(positions(taken), identity_frame(1), 24)
    expected = turn_vectors(place(directions), change)
    torch.testing.assert_close(view_directions(positions(taken), frame[None], 24), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=NAMES)
def test_rendering_turned_maps_gives_the_same_photo(symmetry):
    frame, place, change = symmetry
    maps = random_maps(16)
    turned = {name: place(values) for name, values in maps.items()}
    turned["normal"] = turn_vectors(turned["normal"], change)
    camera = look_at(torch.tensor([0.5, -0.3, 1.1]), torch.tensor([0.02, 0.01]), 1.3)
    x, y, z = camera.position
    same = Camera(camera.homography @ frame, torch.stack((*change(x, y), z)))
    light = Lighting(1.0, build_environment(torch.full((3, 16, 32), 0.1)))
    before, after = (render_view(build_surface(m, 48), c, light, 24) for m, c in ((maps, camera), (turned, same)))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        view_directions(same.position.view(1, 1, 3), identity_frame(1), 8),
        view_directions(camera.position.view(1, 1, 3), frame[None], 8),
        atol=1e-6,
        rtol=0,
    )


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=NAMES)
def test_vectors_turn_as_normals_do(symmetry):
    frame, _, change = symmetry
    vectors = torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scaled = frame @ torch.diag(torch.tensor([0.25, 0.25, 1.0]))
    torch.testing.assert_close(vectors_in_crop(vectors, scaled[None]), turn_vectors(vectors, change))
