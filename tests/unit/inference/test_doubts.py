"""Photos that differ from those of training are told, with what to expect."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuropbr_core.data.images import write_png
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.exporting.inputs import PhotoSet, Signature, prepare_inputs
from neuropbr_core.inference import ViewSet, find_doubts, infer, load_generator, read_views
from neuropbr_core.inference.flash import LEAST_FLASH, flash_share, without_flash
from neuropbr_core.materials.capture_kinds import CaptureKind
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.shipped import DEFAULT_MODEL, resolve, shipped_root

SIZE = 64
CAMERA_ABOVE = {"homography": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "position": [0.0, 0.0, 1.5]}


def signature(**changes: object) -> Signature:
    facts: dict[str, object] = {"views": 3, "image_size": SIZE, "photo_size": SIZE, "output_size": SIZE}
    return Signature(**{**facts, "alignment": "recorded", "directed": True, "flash": True, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["acg_Bricks102", "t3_Wood_027"])
def captures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A capture with a flash, and one without."""
    root = tmp_path_factory.mktemp("captures")
    shutil.copytree(resolve("neuropbr:examples/materials") / request.param, root / "materials" / request.param)
    folders = {}
    for flash in (True, False):
        kinds: tuple[CaptureKind, ...] = ("flash" if flash else "no_flash",)
        plan = Synthesize(str(root / "materials"), samples=1, size=96, seed=5, kinds=kinds)
        synthesize(plan, root / str(flash))
        folders[flash] = root / str(flash) / "input/clean/sample_0000"
    return folders


def doubts(photos: ViewSet, /, **changes: object) -> list[str]:
    of_model = signature(**changes)
    return find_doubts(photos, prepare_inputs(photos.photos, of_model), of_model)


def test_photos_as_in_training_raise_no_doubt(captures: dict[bool, Path]) -> None:
    assert doubts(read_views(captures[True])) == []


def test_a_missing_flash_is_noticed(captures: dict[bool, Path]) -> None:
    (doubt,) = doubts(read_views(captures[False]))
    assert "the photos seem to be taken without a flash" in doubt
    assert "the normals are left flat" in doubt
    for flash in (False, None):
        assert doubts(read_views(captures[False]), flash=flash) == []


def test_relief_is_left_flat_without_a_flash(captures: dict[bool, Path]) -> None:
    model = load_generator(f"neuropbr:{DEFAULT_MODEL}")
    slopes = {}
    for flash, folder in captures.items():
        prediction = infer(folder, model, refine=2)
        slopes[flash] = float(prediction.maps["normal"][:, :2].abs().max())
        assert ("caution" in prediction.made_by) != flash
        assert ("refined" in prediction.made_by) == flash
        assert any("the normals are left flat" in warning for warning in prediction.warnings) != flash
    assert slopes[True] > 0.01
    assert slopes[False] == 0.0


def test_maps_without_a_flash_are_halfway_to_what_the_photos_show() -> None:
    views = torch.tensor([0.1, 0.3, 0.8]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 8, 8)
    visible = torch.ones(1, 3, 1, 8, 8)
    visible[:, 2] = 0
    predicted = {
        "albedo": torch.full((1, 3, 16, 16), 0.6),
        "roughness": torch.full((1, 1, 16, 16), 0.9),
        "metallic": torch.full((1, 1, 16, 16), 0.5),
        "normal": torch.tensor([0.6, 0.0, 0.8]).view(1, 3, 1, 1).expand(1, 3, 16, 16),
    }
    maps = without_flash(predicted, views, visible)
    # The third photo does not show the place; the median of two is the mean.
    expected = {"albedo": (0.6 + 0.2) / 2, "roughness": 0.7, "metallic": 0.25}
    for name, value in expected.items():
        assert torch.allclose(maps[name], torch.full_like(predicted[name], value)), name
    assert torch.equal(maps["normal"][0, :, 0, 0], torch.tensor([0.0, 0.0, 1.0]))


def test_a_single_photo_tells_by_its_exif_whether_the_flash_fired(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(60, 200, (SIZE, SIZE, 3), dtype=np.uint8)
    # Fired, fired with return detected, not fired, switched off, and a camera without a flash.
    for value, fired in ((0x01, True), (0x0F, True), (0x00, False), (0x10, False), (0x20, False), (None, None)):
        exif = Image.Exif()
        exif[0x0112] = 1
        if value is not None:
            exif.get_ifd(0x8769)[0x9209] = value
        Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif)
        (tmp_path / "cameras.json").write_text(json.dumps({tmp_path.name: [CAMERA_ABOVE]}))
        views = read_views(tmp_path)
        assert views.flash_fired is fired
        told = [doubt for doubt in doubts(views, views=1) if "the flash did not fire, as the camera noted" in doubt]
        assert len(told) == (fired is False)


def test_fewer_photos_than_in_training(captures: dict[bool, Path]) -> None:
    (doubt,) = doubts(read_views(captures[True]), views=5)
    assert "has 3 photos, and the model was trained with 5 of each material; expect weaker relief" in doubt


def test_the_share_of_the_flash_is_the_slope_of_its_falloff() -> None:
    positions = torch.tensor([[0.0, 0.0, 1.5], [0.8, 0.0, 1.2]])
    axis = (torch.arange(SIZE) + 0.5) / SIZE
    x = (axis - 0.5)[None, :].expand(SIZE, SIZE)
    y = (0.5 - axis)[:, None].expand(SIZE, SIZE)
    lit = []
    for px, py, pz in positions.tolist():
        squared = (px - x) ** 2 + (py - y) ** 2 + pz**2
        lit.append(pz / squared**1.5)
    linear = torch.stack(lit)[:, None].expand(-1, 3, -1, -1) * 0.3
    views = 1.055 * linear ** (1 / 2.4) - 0.055
    seen = torch.ones(2, 1, SIZE, SIZE)
    share = flash_share(views, seen, positions)
    assert share is not None
    assert share.share == pytest.approx(1, abs=0.01)
    assert not share.is_missing
    same = flash_share(views[:1].expand(2, -1, -1, -1), seen, positions)
    assert same is not None
    assert same.share == pytest.approx(0, abs=0.01)
    assert same.is_missing
    assert flash_share(torch.ones_like(views), seen, positions) is None
    # Lamps that mirror at random places hide what a flash does: no falloff is seen, and none could be.
    glints = torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).expand(-1, 3, -1, -1)
    hidden = flash_share(glints * 0.9 + 0.05, seen, positions)
    assert hidden is not None
    assert hidden.share < LEAST_FLASH
    assert not hidden.is_missing


@pytest.mark.parametrize(
    ("level", "count", "part"),
    [(1.0, 3, "is overexposed: 100% of it is white"), (0.1, 1, "photos are underexposed: hardly a pixel")],
)
def test_exposures_that_are_far_off(tmp_path: Path, level: float, count: int, part: str) -> None:
    for view in range(3):
        pixels = np.full((SIZE, SIZE, 3), round(level * 255), np.uint8)
        write_png(tmp_path / f"{view}.png", pixels)
    found = doubts(read_views(tmp_path), alignment="none", directed=False)
    assert len(found) == count
    assert part in found[0]


def test_a_metal_that_is_dark_beside_its_highlight_is_exposed_right() -> None:
    model = load_generator("neuropbr:flash-3")
    views = read_views(shipped_root() / "examples" / "captures" / "metal_plates")
    assert find_doubts(views, model.prepare(views), model.signature) == []
    # The same capture with one photo two stops darker in light; encoded, values fall to about half.
    bricks = read_views(shipped_root() / "examples" / "captures" / "bricks")
    images = (bricks.images[0], (bricks.images[1].float() * 0.45).to(torch.uint8), bricks.images[2])
    darker = replace(bricks, images=images)
    (doubt,) = find_doubts(darker, model.prepare(darker), model.signature)
    assert "stops brighter than 1.jpg" in doubt


def test_exposures_that_differ(tmp_path: Path) -> None:
    for view, level in enumerate((100, 100, 200)):
        write_png(tmp_path / f"{view}.png", np.full((SIZE, SIZE, 3), level, np.uint8))
    (doubt,) = doubts(read_views(tmp_path), alignment="none", directed=False)
    assert "2.png is 2.2 stops brighter than 0.png" in doubt


def test_transparent_pixels_are_not_seen() -> None:
    image = torch.full((3, SIZE, SIZE), 100, dtype=torch.uint8)
    mask = torch.ones(SIZE, SIZE, dtype=torch.bool)
    mask[:, : SIZE // 2] = False
    eye = torch.eye(3).expand(2, 3, 3)
    positions = torch.tensor([[0.0, 0, 1], [0, 0, 1]])
    photos = PhotoSet([image, image * 2], eye, positions, [mask, None])
    inputs = prepare_inputs(photos, signature(views=2))
    assert inputs["visible"][0, 0, 0, :, : SIZE // 2 - 1].max() == 0
    assert inputs["visible"][0, 0, 0, :, SIZE // 2 + 1 :].min() == 1
    assert inputs["visible"][0, 1].min() == 1
    assert inputs["views"][0, 0, :, :, : SIZE // 2 - 1].max() == 0
    # A model that cannot be told finds the other view's colour there.
    plain = prepare_inputs(photos, signature(views=2, alignment="none", directed=False))
    assert list(plain) == ["views"]
    assert plain["views"][0, 0, 0, 5, 5] == pytest.approx(200 / 255)
    both = PhotoSet([image, image * 2], None, None, [mask, mask])
    filled = prepare_inputs(both, signature(views=2, alignment="none", directed=False))["views"]
    assert filled[0, 0, 0, 5, 5] == pytest.approx(150 / 255, abs=0.01)
