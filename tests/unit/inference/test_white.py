"""A white reference: what it makes of photos whose exposure and colour are wrong, and references that tell nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageDraw
from torch import Tensor

from neuropbr_core.cli import root
from neuropbr_core.data.layout.paths import record_camera, write_cameras
from neuropbr_core.errors import DataError
from neuropbr_core.inference import ViewSet, WhiteReference, calibrate, read_views
from neuropbr_core.inference.refine import REFINE_STEPS, refine
from neuropbr_core.inference.white import PAPER, find_paper
from neuropbr_core.materials.capture import render_capture
from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear

BRICKS = Path(__file__).parents[3] / "examples" / "captures" / "bricks"
SIZE = 160
CENTRE = (68, 68, 24, 24)
CORNER = (16, 16, 24, 24)
OUTSIDE = Path("photo.png")


def encode(linear: Tensor) -> Tensor:
    return (linear_to_srgb(linear.clamp(0, 1)) * 255).round().to(torch.uint8)


def write(views: Tensor, folder: Path) -> None:
    for index, photo in enumerate(views):
        Image.fromarray(photo.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")


@pytest.fixture
def capture(tmp_path: Path) -> ViewSet:
    """Two flash photos of paper all over, which has its right value wherever one looks."""
    maps = {
        "albedo": torch.full((1, 3, SIZE, SIZE), float(linear_to_srgb(torch.tensor(0.5)))),
        "roughness": torch.ones(1, 1, SIZE, SIZE),
        "metallic": torch.zeros(1, 1, SIZE, SIZE),
        "normal": torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].repeat(1, 1, SIZE, SIZE),
    }
    rendered = render_capture(maps, 2, SIZE, torch.Generator().manual_seed(0))
    folder = tmp_path / "capture"
    folder.mkdir()
    write(rendered.views, folder)
    records = tuple(record_camera(camera.homography, camera.position) for camera in rendered.cameras)
    write_cameras(folder / "cameras.json", {"capture": records})
    return read_views(folder)


def changed(views: ViewSet, stops: float, cast: tuple[float, float, float]) -> ViewSet:
    """The same photos with another exposure and colour, on the disk too."""
    images = []
    for image in views.images:
        linear = srgb_to_linear(image.float() / 255) * 2**stops * torch.tensor(cast)[:, None, None]
        images.append(encode(linear))
    write(torch.stack(images), views.folder)
    return replace(views, images=tuple(images))


@pytest.mark.parametrize("region", [CENTRE, CORNER])
def test_exposure_and_colour_are_put_right_wherever_the_reference_is(
    capture: ViewSet, region: tuple[int, int, int, int]
) -> None:
    wrong = changed(capture, -1.0, (1.3, 1.0, 0.8))
    right = calibrate(wrong, WhiteReference(region, 0.5))
    assert right.exposure_known
    # Exposure errs by up to 0.15 stops in a rendered capture, and the surroundings' light is not known.
    centre = srgb_to_linear(right.images[0].float() / 255)[:, 76:84, 76:84].mean(dim=(1, 2))
    assert torch.allclose(centre, torch.full((3,), 0.5), rtol=0.06)
    # Both photos are changed by the same factors.
    for before, after in zip(wrong.images, right.images, strict=True):
        factors = srgb_to_linear(after.float() / 255).mean(dim=(1, 2)) / srgb_to_linear(before.float() / 255).mean(
            dim=(1, 2)
        )
        assert torch.allclose(factors, factors[1] * torch.tensor([1 / 1.3, 1.0, 1 / 0.8]), rtol=0.03)


def test_light_without_a_flash_does_not_fall_off(capture: ViewSet) -> None:
    with_flash = calibrate(capture, WhiteReference(CORNER, 0.5))
    without = calibrate(replace(capture, flashes=(False, False)), WhiteReference(CORNER, 0.5))
    # The corner is darker than the centre; without a falloff, the exposure must be.
    brightness = [srgb_to_linear(views.images[0].float() / 255).mean() for views in (without, with_flash)]
    assert brightness[0] > 1.08 * brightness[1]


def test_what_is_clipped_stays_white(capture: ViewSet) -> None:
    image = capture.images[0].clone()
    image[:, :8] = 255
    darker = calibrate(replace(capture, images=(image, capture.images[1])), WhiteReference(CENTRE, 0.2))
    assert bool((darker.images[0][:, :8] == 255).all())
    assert darker.images[0][:, 8:].float().mean() < 0.8 * image[:, 8:].float().mean()


@pytest.mark.parametrize("reflectance", [0.2, 0.8])
def test_brighter_pixels_stay_brighter(capture: ViewSet, reflectance: float) -> None:
    image = capture.images[0].clone()
    ramp = torch.arange(SIZE) * 255 // (SIZE - 1)
    image[:, :8] = ramp.to(torch.uint8)
    changed_ramp = calibrate(replace(capture, images=(image,)), WhiteReference(CENTRE, reflectance)).images[0][:, 0]
    assert not torch.equal(changed_ramp, image[:, 0])
    assert bool((changed_ramp.int().diff() >= 0).all())
    assert bool((changed_ramp[:, -1] == 255).all())


def test_a_region_is_in_pixels_of_the_file_though_the_photo_was_shrunk(capture: ViewSet) -> None:
    expected = calibrate(capture, WhiteReference(CENTRE, 0.5))
    for index, image in enumerate(capture.images):
        large = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((4 * SIZE, 4 * SIZE), Image.Resampling.NEAREST)
        large.save(capture.folder / f"{index}.png")
    left, top, width, height = CENTRE
    found = calibrate(capture, WhiteReference((4 * left, 4 * top, 4 * width, 4 * height), 0.5))
    assert torch.equal(found.images[0], expected.images[0])


@pytest.mark.parametrize(
    ("change", "region", "message"),
    [
        (0.0, (150, 0, 20, 10), "has 160x160 pixels, so the white region 150,0,20,10"),
        (1.5, CENTRE, "100% of the white reference are overexposed"),
        (-5.0, CENTRE, "too dark to measure"),
    ],
)
def test_a_reference_that_tells_nothing_is_refused(
    capture: ViewSet, change: float, region: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        calibrate(changed(capture, change, (1, 1, 1)), WhiteReference(region))


def test_an_uneven_region_is_refused(capture: ViewSet) -> None:
    image = capture.images[0].clone()
    image[:, 76:] //= 3
    with pytest.raises(DataError, match="uneven; give a region"):
        calibrate(replace(capture, images=(image, capture.images[1])), WhiteReference(CENTRE))


def test_photos_without_cameras_are_refused(capture: ViewSet) -> None:
    with pytest.raises(DataError, match="where the first photo was taken from"):
        calibrate(replace(capture, homographies=None), WhiteReference(CENTRE))


def scene(*shapes: tuple[str, tuple[float, ...], int]) -> Tensor:
    """A grey, grainy photo of 600 × 400 pixels with white shapes on it."""
    grain = torch.randint(60, 110, (400, 600, 1), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    picture = Image.fromarray(grain.repeat(1, 1, 3).numpy())
    draw = ImageDraw.Draw(picture)
    for kind, points, grey in shapes:
        getattr(draw, kind)(points, fill=(grey, grey, grey))
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(400, 600, 3).permute(2, 0, 1)


def test_a_turned_sheet_of_paper_is_found() -> None:
    # Its centre is at (460, 110); a highlight beside it is brighter, and round.
    photo = scene(("polygon", (400, 110, 460, 50, 520, 110, 460, 170), 215), ("ellipse", (60, 60, 180, 180), 235))
    left, top, width, height = find_paper(photo, OUTSIDE)
    assert bool((photo[:, top : top + height, left : left + width] == 215).all())
    assert width == height >= 30


@pytest.mark.parametrize(
    "shapes",
    [
        (),
        (("ellipse", (60, 60, 180, 180), 235),),  # a highlight
        (("rectangle", (60, 60, 180, 180), 255),),  # overexposed
        (("rectangle", (60, 60, 70, 70), 215),),  # too small to be measured
    ],
)
def test_no_paper_is_invented(shapes: tuple[tuple[str, tuple[float, ...], int], ...]) -> None:
    with pytest.raises(DataError, match="no white paper was found"):
        find_paper(scene(*shapes), OUTSIDE)


def test_refinement_keeps_an_exposure_that_is_known(capture: ViewSet) -> None:
    # The prediction is too dark by a third, which a free exposure would explain.
    views = calibrate(capture, WhiteReference(CENTRE, 0.5))
    photos = torch.stack(views.images)[:1].float() / 255
    maps = {
        "albedo": torch.full((1, 3, SIZE, SIZE), float(linear_to_srgb(torch.tensor(0.33)))),
        "roughness": torch.full((1, 1, SIZE, SIZE), 0.95),
        "metallic": torch.full((1, 1, SIZE, SIZE), 0.01),
        "normal": torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].repeat(1, 1, SIZE, SIZE),
    }
    albedo = {}
    for known in (False, True):
        refined = refine(maps, photos, views.positions[:1], steps=REFINE_STEPS // 2, exposure_known=known)
        albedo[known] = float(srgb_to_linear(refined.maps["albedo"]).mean())
    assert albedo[True] == pytest.approx(0.5, rel=0.06)
    assert abs(albedo[True] - 0.5) < abs(albedo[False] - 0.5)


def test_the_command_says_what_it_took_for_white(tmp_path: Path) -> None:
    photos = tmp_path / "bricks"
    shutil.copytree(BRICKS, photos)
    first = min(photos.glob("*.jpg"))
    with Image.open(first) as image:
        ImageDraw.Draw(image).rectangle((20, 30, 100, 110), fill=(200, 198, 190))
        image.save(first, quality=95)
    maps = tmp_path / "maps"
    words = ["infer", str(photos), "--refine", "0", "--device", "cpu", "--output", str(maps), "--white"]
    done = CliRunner().invoke(root, [*words, "auto"])
    assert done.exit_code == 0, done.output
    assert f"of {first.name}; brightness +" in done.stderr
    assert (maps / "albedo.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--white", "1,2,3"], "'1,2,3' is no region; give LEFT,TOP,WIDTH,HEIGHT"),
        (["--white", "1,2,0,4"], "is no region"),
        (["--reflectance", "0.18"], "--reflectance is that of what --white names"),
        (["--white", "auto", "--reflectance", "0"], "0 is not in the range"),
    ],
)
def test_words_that_are_no_reference_are_refused(words: list[str], message: str) -> None:
    refused = CliRunner().invoke(root, ["infer", str(BRICKS), *words])
    assert refused.exit_code == 2
    assert message in refused.output


def test_paper_is_the_usual_reference() -> None:
    assert WhiteReference("auto").reflectance == PAPER
