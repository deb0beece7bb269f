"""A live crop against the aligned view of a rendered photo of the same scene."""

import math

import numpy as np
import pytest
import torch

from neuropbr_core.data.images import read_map
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import warp_views
from neuropbr_core.materials.capture import Scene, draw_scene, light, surface_for
from neuropbr_core.materials.capture_kinds import CaptureKind
from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.environments import TURNS
from neuropbr_core.materials.live.crop_grid import CropGrid, frame_points
from neuropbr_core.materials.live.framing import Viewpoints
from neuropbr_core.materials.live.photos import Errors
from neuropbr_core.materials.live.scene import AlignedPhotos, photograph
from neuropbr_core.materials.live.shading import LiveLight, radiance
from neuropbr_core.materials.live.textures import STRAIGHT, SurfaceValues, Texture, measure, pack_texels
from neuropbr_core.materials.render import Lighting, render_view, shade
from neuropbr_core.materials.sensor import encode_photos
from neuropbr_core.materials.surface import Point, reflectance
from neuropbr_core.shipped import resolve

SIZE, PHOTO, SIDE = 256, 384, 64
MATERIALS = ("acg_Tiles032", "acg_Metal053C", "acg_Bricks102", "t3_Pebbles_025")


def stored_maps(name: str) -> dict[str, np.ndarray]:
    folder = resolve("neuropbr:examples/materials") / name
    return {key: read_map(folder / spec.file_name, spec, SIZE) for key, spec in MAPS.items()}


def texture(name: str) -> Texture:
    levels = pack_texels(stored_maps(name))
    return Texture(name, tuple(levels), measure(levels))


def viewpoints(scene: Scene) -> Viewpoints:
    homographies = np.stack([camera.homography.numpy() for camera in scene.cameras]).astype(np.float64)
    positions = np.stack([camera.position.numpy() for camera in scene.cameras]).astype(np.float64)
    return Viewpoints(homographies, positions)


def errors(views: int, lens: float, blur: float) -> Errors:
    zero = np.zeros(views)
    still = np.zeros((views, 2))
    return Errors(False, zero, zero, zero, np.full((views, 2), lens), np.full((views, 2), blur), still, None)


def aligned_photos(name: str, scene: Scene, frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    maps = {}
    for key, stored in stored_maps(name).items():
        maps[key] = decode_map(MAPS[key], torch.from_numpy(stored)[None])
    surface, lighting = surface_for(maps, PHOTO), light(scene)
    photos = torch.stack([render_view(surface, camera, lighting, PHOTO) for camera in scene.cameras])
    homographies = torch.stack([camera.homography for camera in scene.cameras])
    views = encode_photos(photos).float() / 255
    aligned, visible = warp_views(views[None], homographies[None], frame[None], SIDE)
    return aligned[0], visible[0]


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10 * (first - second).square().mean().log10())


def live_crop(name: str, scene: Scene, x: int, y: int, lens: float, blur: float) -> AlignedPhotos:
    material, grid = texture(name), CropGrid(x, y, SIDE, SIZE, 1, PHOTO)
    near = material.look_up(grid.shaded(), STRAIGHT, 1 / SIZE)
    far = material.look_up(frame_points(64), STRAIGHT, 1 / 64)
    light = LiveLight(scene.environment, 2 * math.pi * scene.step / TURNS, scene.ambient)
    return photograph(np.random.default_rng(0), (near, grid), far, viewpoints(scene), light, errors(3, lens, blur))


@pytest.mark.parametrize("name", ["acg_Bricks102", "t3_Pebbles_025"])
@pytest.mark.parametrize("seed", [3, 4])
def test_a_live_crop_is_the_aligned_view_of_a_photo(name: str, seed: int) -> None:
    scene = draw_scene(torch.Generator().manual_seed(seed), 3)
    x, y = 40, 150
    frame = torch.tensor([[SIDE / SIZE, 0, x / SIZE], [0, SIDE / SIZE, y / SIZE], [0, 0, 1.0]])
    aligned, seen = aligned_photos(name, scene, frame)
    live = live_crop(name, scene, x, y, 0.45, 0.45)
    assert torch.equal(live.visible > 0, seen > 0)
    for view in range(3):
        assert psnr(live.views[view] / 255, aligned[view]) >= 42, f"view {view}"


@pytest.mark.parametrize("name", ["acg_Tiles032", "acg_Metal053C"])
def test_so_is_that_of_a_polished_material_but_for_its_glints(name: str) -> None:
    """Highlights on relief finer than a texel are aliased: few pixels differ much, the median not at all."""
    scene = draw_scene(torch.Generator().manual_seed(5), 3)
    x, y = 40, 150
    frame = torch.tensor([[SIDE / SIZE, 0, x / SIZE], [0, SIDE / SIZE, y / SIZE], [0, 0, 1.0]])
    aligned, _ = aligned_photos(name, scene, frame)
    live = live_crop(name, scene, x, y, 0.4, 0.5)
    assert psnr(live.views / 255, aligned) >= 37.5
    assert float((live.views / 255 - aligned).abs().median()) < 2 / 255


def test_a_crop_that_photos_show_in_part_is_visible_where_they_do() -> None:
    scene = draw_scene(torch.Generator().manual_seed(3), 3)
    for corner in (0, SIZE - SIDE):
        frame = torch.tensor([[SIDE / SIZE, 0, corner / SIZE], [0, SIDE / SIZE, corner / SIZE], [0, 0, 1.0]])
        _, seen = aligned_photos("acg_Bricks102", scene, frame)
        live = live_crop("acg_Bricks102", scene, corner, corner, 0.45, 0.45)
        assert float(((live.visible > 0) != (seen > 0)).float().mean()) < 1e-3
        assert not bool(live.views[(live.visible == 0).expand_as(live.views)].any())


@pytest.mark.parametrize("name", MATERIALS)
def test_an_overview_is_that_of_a_photo(name: str) -> None:
    scene = draw_scene(torch.Generator().manual_seed(3), 3)
    maps = {key: decode_map(MAPS[key], torch.from_numpy(each)[None]) for key, each in stored_maps(name).items()}
    surface, lighting = surface_for(maps, PHOTO), light(scene)
    photos = torch.stack([render_view(surface, camera, lighting, PHOTO) for camera in scene.cameras])
    homographies = torch.stack([camera.homography for camera in scene.cameras])
    views = encode_photos(photos).float() / 255
    aligned, visible = warp_views(views[None], homographies[None], torch.eye(3)[None], SIZE)
    shares = torch.nn.functional.avg_pool2d(visible[0], 8)
    expected = torch.nn.functional.avg_pool2d(aligned[0], 8) / shares.clamp_min(1e-6)
    live = live_crop(name, scene, 0, 0, 0.45, 0.45)
    assert float((live.overview[:, 3:] / 255 - shares).abs().mean()) < 0.01
    inside = shares > 0.9
    difference = ((live.overview[:, :3] / 255 - expected) * inside).abs().sum() / (3 * inside.sum())
    assert float(difference) < 0.025, float(difference)


@pytest.mark.parametrize("kind", ["flash", "offset"])
def test_shading_is_that_of_the_renderer(kind: CaptureKind) -> None:
    rng = np.random.default_rng(1)
    count = 200
    slopes = rng.normal(0, 0.6, (2, count)).astype(np.float32)
    values = SurfaceValues(
        albedo=rng.random((3, count), np.float32),
        roughness=rng.random(count, np.float32),
        metallic=rng.random(count, np.float32),
        slopes=slopes,
        spread=np.zeros(count, np.float32),
    )
    points = rng.random((count, 2))
    scene = draw_scene(torch.Generator().manual_seed(5), 2, kind=kind)
    offset = None
    if scene.flash_offset is not None:
        offset = scene.flash_offset.repeat(2, 1)
    live = LiveLight(scene.environment, 0.0, scene.ambient, offset)
    shaded = radiance(values, points, viewpoints(scene).positions, live)
    base = srgb_to_linear(torch.from_numpy(values.albedo))[..., None]
    material = reflectance(
        base, torch.from_numpy(values.roughness)[None, :, None], torch.from_numpy(values.metallic)[None, :, None]
    )
    up = torch.ones(1, count)
    normal = torch.nn.functional.normalize(torch.cat((torch.from_numpy(slopes), up)), dim=0)[..., None]
    u, v = torch.from_numpy(points.T).float()
    lighting = light(scene)
    assert isinstance(lighting, Lighting)
    for view, camera in enumerate(scene.cameras):
        to_lens = camera.position.view(3, 1) - torch.stack((u - 0.5, 0.5 - v, torch.zeros_like(u)))
        expected = shade(Point(material, normal), to_lens[..., None], lighting)[..., 0]
        torch.testing.assert_close(shaded[view], expected, rtol=2e-3, atol=2e-4)
