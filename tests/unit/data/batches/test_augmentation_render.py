"""Augmented maps, rendered again, give the photo that was augmented: turned maps are turned materials."""

import itertools
import math

import numpy as np
import pytest
import torch

from neuropbr_core.data.batches.crops import Placement, crop_matrix, place_map
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import vectors_in_crop
from neuropbr_core.materials.cameras import Camera, look_at, project
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.environments import build_environment
from neuropbr_core.materials.render import Lighting, render_view
from neuropbr_core.materials.sphere import directions
from neuropbr_core.materials.surface import build_surface

SIZE, PHOTO = 24, 32
RNG = np.random.default_rng(0)
STORED = {
    "albedo": RNG.integers(20, 236, (3, SIZE, SIZE), dtype=np.uint8),
    "roughness": RNG.integers(100, 256, (1, SIZE, SIZE), dtype=np.uint8),
    "metallic": RNG.integers(0, 2, (1, SIZE, SIZE), dtype=np.uint8) * np.uint8(255),
    "normal": np.concatenate(
        [RNG.integers(70, 186, (2, SIZE, SIZE), dtype=np.uint8), np.full((1, SIZE, SIZE), 230, np.uint8)]
    ),
}
CAMERA = look_at(torch.tensor([0.7, -0.4, 1.1]), torch.tensor([0.02, 0.05]), focal=1.2, roll=0.1)
LIGHTING = Lighting(3.0, build_environment(torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(1)) * 2))
WHOLE = [Placement(0, 0, SIZE, *symmetry) for symmetry in itertools.product(range(4), (False, True))]
WINDOWS = [Placement(4, 7, 15, *symmetry) for symmetry in itertools.product(range(4), (False, True))]


def photograph(placement, camera, lighting):
    maps = {
        name: decode_map(spec, torch.from_numpy(place_map(STORED[name], spec, placement)))[None]
        for name, spec in MAPS.items()
    }
    return render_view(build_surface(maps, SIZE), camera, lighting, PHOTO)


def seen_from(frame, camera):
    """The same camera in the world of the crop."""
    x, y, height = camera.position
    u, v = project(torch.linalg.inv(frame), torch.stack((x + 0.5, 0.5 - y))[None])[0]
    scale = frame[:2, :2].norm(dim=0)[0]
    return Camera(camera.homography @ frame, torch.stack((u - 0.5, 0.5 - v, height / scale)))


def lit_in(frame, lighting):
    """The same light in the world of the crop; distances there count in sides of the crop."""
    radiance = lighting.environment.radiance
    width = radiance.shape[2]
    axes = vectors_in_crop(torch.eye(3).view(1, 3, 3, 1, 1), frame[None])[0, :, :, 0, 0]  # rows: texture axes
    sources = torch.einsum("tc,chw->thw", axes, directions(*radiance.shape[1:]))
    columns = torch.atan2(sources[1], sources[0]) / (2 * math.pi) * width - 0.5
    chosen = columns[radiance.shape[1] // 2].round().long() % width
    scale = float(frame[:2, :2].norm(dim=0)[0])
    return Lighting(lighting.flash / scale**2, build_environment(radiance[:, :, chosen]))


def compare(placement, where=None):
    frame = torch.from_numpy(crop_matrix(placement, SIZE))
    expected = photograph(Placement(0, 0, SIZE), CAMERA, LIGHTING)
    found = photograph(placement, seen_from(frame, CAMERA), lit_in(frame, LIGHTING))
    keep = torch.ones(PHOTO, PHOTO, dtype=torch.bool) if where is None else where
    torch.testing.assert_close(found[:, keep], expected[:, keep], atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("placement", WHOLE, ids=str)
def test_a_turned_material_gives_the_same_photo(placement):
    compare(placement)


@pytest.mark.parametrize("placement", WINDOWS, ids=str)
def test_a_window_gives_the_part_of_the_photo_that_shows_it(placement):
    steps = (torch.arange(PHOTO) + 0.5) / PHOTO
    points = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).view(-1, 2)
    texture = project(torch.linalg.inv(CAMERA.homography), points).view(PHOTO, PHOTO, 2) * SIZE
    corner = torch.tensor([placement.x, placement.y])
    inside = ((texture > corner + 2) & (texture < corner + placement.side - 2)).all(dim=-1)
    assert inside.sum() > 50
    compare(placement, inside)


def test_light_and_normals_that_stay_behind_are_noticed():
    placement = WHOLE[2]
    frame = torch.from_numpy(crop_matrix(placement, SIZE))
    expected = photograph(Placement(0, 0, SIZE), CAMERA, LIGHTING)
    wrong_light = photograph(placement, seen_from(frame, CAMERA), LIGHTING)
    wrong_camera = photograph(placement, Camera(CAMERA.homography @ frame, CAMERA.position), lit_in(frame, LIGHTING))
    for wrong in (wrong_light, wrong_camera):
        assert (wrong - expected).abs().mean() > 0.005
