import math

import cv2
import numpy as np
import pytest
import torch

from neuropbr_core.data.images import read_map
from neuropbr_core.data.registration.dense import agreement, refine, repetition, search
from neuropbr_core.data.registration.features import (
    LEAST_AGREEING,
    Picture,
    centred_square,
    find_features,
    match_features,
    square_to_photo,
)
from neuropbr_core.data.registration.register import LEAST_CONFIDENCE, NOMINAL_FOCAL, centring, register_photos
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.cameras import look_at, project
from neuropbr_core.materials.capture import render_capture
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.shipped import resolve

SIZE = 320
FOCAL = 1.4
GRID = torch.cartesian_prod(torch.linspace(0.02, 0.98, 9), torch.linspace(0.02, 0.98, 9)).double()


def material(seed=0, size=512):
    """Blotches of several sizes, as colour `(3, H, W)` in [0, 1]; tileable."""
    rng = np.random.default_rng(seed)
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    spectrum = np.fft.fft2(rng.normal(size=(3, size, size))) / np.maximum(frequencies, 1 / 64) ** 1.2
    blotches = np.fft.ifft2(spectrum).real
    return (0.5 + 0.15 * blotches / blotches.std()).clip(0, 1)


def bricks(size=512, rows=8):
    """Bricks that differ in shade alone."""
    rng = np.random.default_rng(5)
    v, u = np.mgrid[0:size, 0:size] / size * rows
    column = np.floor(u / 2 + (np.floor(v) % 2) / 2)
    shade = rng.uniform(0.45, 0.55, (rows, rows))[np.floor(v).astype(int), column.astype(int) % rows]
    joint = ((v % 1) < 0.12) | ((u + (np.floor(v) % 2)) % 2 < 0.12)
    return np.repeat(np.where(joint, 0.8, shade)[None], 3, axis=0)


def camera(tilt, azimuth, distance=1.5, roll=0.0):
    tilt, azimuth = math.radians(tilt), math.radians(azimuth)
    direction = [math.sin(tilt) * math.cos(azimuth), math.sin(tilt) * math.sin(azimuth), math.cos(tilt)]
    return look_at(torch.tensor(direction, dtype=torch.float64) * distance, torch.zeros(2).double(), FOCAL, roll)


ABOVE = camera(0, 0, distance=FOCAL)
TILTED = (camera(30, 20), camera(25, 140, roll=0.05))


def homography_of(taken, width, height):
    """The camera's homography for a photo of another shape, which shows more at two sides."""
    return np.linalg.inv(centring(width, height)) @ centring(1, 1) @ taken.homography.numpy()


def photograph(texture, taken, width=SIZE, height=SIZE, noise=0.01, seed=0):
    """uint8 `(3, H, W)`: the endless tiling, with what the sensor adds."""
    homography = homography_of(taken, width, height)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    u, v, w = np.einsum("ij,jyx->iyx", np.linalg.inv(homography), np.stack([x / width, y / height, np.ones_like(x)]))
    size = texture.shape[-1]
    at = [(np.mod(value / w, 1) * size - 0.5).astype(np.float32) for value in (u, v)]
    photo = cv2.remap(np.moveaxis(texture, 0, -1).astype(np.float32), *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    photo += np.random.default_rng(seed).normal(scale=noise, size=photo.shape)
    return np.moveaxis((photo.clip(0, 1) * 255).round().astype(np.uint8), -1, 0)


def error(record, taken, width=SIZE, height=SIZE):
    """Largest distance in sides of the photo between where a record and a camera see points of the texture."""
    found = project(torch.tensor(record.homography, dtype=torch.float64), GRID)
    true = project(torch.from_numpy(homography_of(taken, width, height)), GRID)
    seen = ((true > 0.02) & (true < 0.98)).all(dim=1)
    assert seen.float().mean() > 0.6
    return float((found - true)[seen].norm(dim=1).max())


def register(*photos):
    return register_photos(photos, [f"{index}.jpg" for index in range(len(photos))])


TEXTURE = material()


def test_known_cameras_are_found():
    found = register(*(photograph(TEXTURE, taken, seed=i) for i, taken in enumerate((ABOVE, *TILTED))))
    assert found.cameras[0].homography == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert found.focal == pytest.approx(FOCAL, rel=0.02)
    assert found.confidence[0] == 1
    for record, taken, confidence in zip(found.cameras, (ABOVE, *TILTED), found.confidence, strict=True):
        assert error(record, taken) < 1 / SIZE
        np.testing.assert_allclose(record.position, taken.position, atol=0.03)
        assert confidence > 0.8


def test_repeats():
    photos = [photograph(TEXTURE, taken) for taken in (ABOVE, TILTED[0])]
    assert register(*photos) == register(*photos)


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 400)])
def test_the_texture_is_the_centred_square_of_the_first_photo(width, height):
    photos = [photograph(TEXTURE, taken, width, height) for taken in (ABOVE, TILTED[0])]
    found = register(*photos)
    for record, taken in zip(found.cameras, (ABOVE, TILTED[0]), strict=True):
        assert error(record, taken, width, height) < 1.5 / 300
    np.testing.assert_allclose(found.cameras[1].position, TILTED[0].position, atol=0.05)
    corners = square_to_photo(width, height) @ np.array([[0, 1], [0, 1], [1, 1]])
    assert (corners[0, 1] - corners[0, 0]) * width == pytest.approx(300)
    assert (corners[1, 1] - corners[1, 0]) * height == pytest.approx(300)
    assert centred_square(photos[0]).shape == (3, 300, 300)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_phone_may_be_turned(turns):
    taken = camera(25, 60, roll=turns * math.pi / 2)
    found = register(photograph(TEXTURE, ABOVE), photograph(TEXTURE, taken))
    assert error(found.cameras[1], taken) < 1 / SIZE
    np.testing.assert_allclose(found.cameras[1].position, taken.position, atol=0.1)


def test_a_highlight_that_moves_with_the_phone_does_no_harm():
    def glaring(photo, x, y):
        rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
        glare = 200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 0.02)
        return (photo + glare[None]).clip(0, 255).astype(np.uint8)

    photos = [photograph(TEXTURE, taken) for taken in (ABOVE, TILTED[0])]
    found = register(glaring(photos[0], 0.5, 0.5), glaring(photos[1], 0.8, 0.4))
    assert error(found.cameras[1], TILTED[0]) < 1 / SIZE
    assert 0.6 < found.confidence[1] < 0.99


def test_a_pattern_that_repeats_does_not_slip():
    found = register(*(photograph(bricks(), taken, seed=i) for i, taken in enumerate((ABOVE, TILTED[0]))))
    assert error(found.cameras[1], TILTED[0]) < 1.5 / SIZE


def test_a_rendered_capture_is_registered_through_its_moving_light():
    folder = resolve("neuropbr:examples/materials") / "t3_Wood_027"
    stored = {name: read_map(folder / spec.file_name, spec, 256) for name, spec in MAPS.items()}
    maps = {name: decode_map(MAPS[name], torch.from_numpy(values)[None]) for name, values in stored.items()}
    capture = render_capture(maps, 3, 256, torch.Generator().manual_seed(4))
    found = register(*capture.views.numpy())
    first = capture.cameras[0].homography.double()
    for record, taken in zip(found.cameras[1:], capture.cameras[1:], strict=True):
        expected = project(taken.homography.double() @ torch.linalg.inv(first), GRID)
        seen = project(torch.tensor(record.homography, dtype=torch.float64), GRID)
        inside = ((expected > 0.02) & (expected < 0.98)).all(dim=1)
        assert (seen - expected)[inside].norm(dim=1).max() < 2 / 256


def test_a_known_texture_is_the_frame_of_all_photos():
    """The first photo shows a little less than the tile, from not quite above; the albedo tells."""
    first = camera(4, 200, distance=1.3, roll=0.04)
    photos = [photograph(TEXTURE, taken) for taken in (first, *TILTED)]
    albedo = (TEXTURE * 255).round().astype(np.uint8)
    found = register_photos(photos, ["0", "1", "2"], albedo)
    for record, taken in zip(found.cameras, (first, *TILTED), strict=True):
        assert error(record, taken) < 1 / SIZE
        np.testing.assert_allclose(record.position, taken.position, atol=0.03)
    assert 0.5 < found.confidence[0] < 1  # the border of the tile is not in the photo


def test_a_texture_that_is_not_found_in_the_first_photo_changes_nothing():
    photos = [photograph(TEXTURE, taken) for taken in (ABOVE, TILTED[0])]
    blank = np.full((3, 256, 256), 128, np.uint8)
    for texture in (blank, blank[:, :16, :16]):
        found = register_photos(photos, ["0", "1"], texture)
        assert found.confidence[0] == 0
        assert found.cameras == register(*photos).cameras


def test_one_photo_is_its_own_texture():
    found = register(photograph(TEXTURE, ABOVE, 64, 48))
    assert found.confidence == (1.0,)
    assert found.focal == NOMINAL_FOCAL
    np.testing.assert_allclose(found.cameras[0].position, (0, 0, NOMINAL_FOCAL), atol=1e-9)


def test_search_finds_what_features_would_be_ambiguous_for():
    first, other = (Picture(photograph(TEXTURE, taken)) for taken in (ABOVE, TILTED[0]))
    start = search(first, other)
    refined = refine(first, other, start)
    true = homography_of(TILTED[0], SIZE, SIZE)
    assert agreement(first, other, refined) > 0.8
    np.testing.assert_allclose(refined / refined[2, 2], true / true[2, 2], atol=0.01)


def test_agreement_is_low_for_what_is_wrong():
    first, other = (Picture(photograph(TEXTURE, taken)) for taken in (ABOVE, TILTED[0]))
    true = homography_of(TILTED[0], SIZE, SIZE)
    shifted = np.array([[1, 0, 0.02], [0, 1, 0.0], [0, 0, 1]]) @ true
    away = np.array([[1, 0, 0.7], [0, 1, 0.0], [0, 0, 1]]) @ true
    assert agreement(first, other, true) > 0.8
    assert agreement(first, other, shifted) < LEAST_CONFIDENCE / 2
    assert agreement(first, other, away) == 0
    assert agreement(first, Picture(photograph(material(9), TILTED[0])), true) < LEAST_CONFIDENCE / 2


def test_features_agree_on_a_homography():
    pictures = tuple(Picture(photograph(TEXTURE, taken)) for taken in (ABOVE, TILTED[0]))
    first, other = map(find_features, pictures)
    start = match_features(first, other, pictures, near=True)
    assert start.matches >= start.agreeing > LEAST_AGREEING
    true = homography_of(TILTED[0], SIZE, SIZE)
    np.testing.assert_allclose(start.homography / start.homography[2, 2], true / true[2, 2], atol=0.02)


def test_a_blank_picture_has_no_features():
    blank = Picture(np.full((3, SIZE, SIZE), 128, np.uint8))
    features = find_features(blank)
    start = match_features(features, features, (blank, blank), near=True)
    assert (start.homography, start.matches) == (None, 0)
    assert search(blank, blank) is None


@pytest.mark.parametrize("other", ["blank", "noise", "another material"])
def test_what_cannot_be_registered_is_refused(other):
    photos = {
        "blank": np.full((3, SIZE, SIZE), 128, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8),
        "another material": photograph(material(9), TILTED[0]),
    }
    good = photograph(TEXTURE, TILTED[1])
    pattern = (
        r"^1\.jpg: cannot be registered to 0\.jpg: too few matches; \d of \d+ feature matches agree \(10 needed\), and "
        r"\d% of the frame looks alike \(20% needed\)\. Retake it .*cameras\.json \(`neuropbr infer --cameras FILE`\)$"
    )
    with pytest.raises(DataError, match=pattern):
        register(photograph(TEXTURE, ABOVE), photos[other], good)


def test_a_mirrored_photo_is_refused_as_such():
    mirrored = photograph(TEXTURE, TILTED[0])[:, :, ::-1]
    with pytest.raises(DataError, match=r"1\.jpg: is mirrored: flipped left to right it matches 0\.jpg\. Flip it back"):
        register(photograph(TEXTURE, ABOVE), mirrored)


def test_all_refusals_come_at_once():
    blank = np.full((3, SIZE, SIZE), 128, np.uint8)
    with pytest.raises(DataError) as caught:
        register(photograph(TEXTURE, ABOVE), blank, photograph(TEXTURE, TILTED[0]), blank)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["1.jpg", "3.jpg"]


def test_a_refused_photo_can_be_left_out():
    photos = [photograph(TEXTURE, taken, seed=i) for i, taken in enumerate((ABOVE, *TILTED))]
    blank = np.full((3, SIZE, SIZE), 128, np.uint8)
    mixed = [photos[0], blank, photos[1], photos[2], np.zeros((3, 60, 60), np.uint8)]
    found = register_photos(mixed, [f"{index}.jpg" for index in range(5)], partial=True)
    assert list(found.refusals) == [1, 4]
    assert "too few matches" in found.refusals[1]
    assert "is 60×60 pixels" in found.refusals[4]
    alone = register(*photos)
    assert (found.cameras, found.confidence, found.focal) == (alone.cameras, alone.confidence, alone.focal)
    with pytest.raises(DataError, match=r"1\.jpg: cannot be registered"):
        register_photos(mixed[:2], ["0.jpg", "1.jpg"], partial=True)


def test_steep_photos_are_left_out_and_the_others_registered_again(monkeypatch):
    monkeypatch.setattr("neuropbr_core.data.registration.register._STEEPEST", math.radians(28))
    photos = [photograph(TEXTURE, taken, seed=i) for i, taken in enumerate((ABOVE, *TILTED))]
    found = register_photos(photos, ["0.jpg", "1.jpg", "2.jpg"], partial=True)
    assert list(found.refusals) == [1]
    assert "tilted by 30°" in found.refusals[1]
    assert found.cameras == register(photos[0], photos[2]).cameras


def test_a_photo_of_the_place_beside_is_refused_for_its_overlap():
    ground = (material(size=1024) * 255).astype(np.uint8)
    with pytest.raises(DataError, match=r"1\.jpg: .* no overlap: it shows 4\d% of the patch in 0\.jpg \(60% needed\)"):
        register(ground[:, :SIZE, :SIZE], ground[:, :SIZE, 176 : 176 + SIZE])


def test_a_pattern_that_repeats_is_named(monkeypatch):
    monkeypatch.setattr("neuropbr_core.data.registration.register.LEAST_CONFIDENCE", 1.1)
    wall = [photograph(bricks(), taken, seed=i) for i, taken in enumerate((ABOVE, TILTED[1]))]
    with pytest.raises(DataError, match=r"1\.jpg: .* a repeating pattern: it looks alike every (1|2)\d% of the patch"):
        register(*wall)
    assert 0.12 < repetition(Picture(wall[0])) < 0.28  # a brick is a quarter wide, and rows are shifted by half of it
    for texture in (TEXTURE, material(3)):
        assert repetition(Picture(photograph(texture, ABOVE))) is None


def test_steep_solutions_are_refused(monkeypatch):
    monkeypatch.setattr("neuropbr_core.data.registration.register._STEEPEST", math.radians(15))
    with pytest.raises(DataError, match=r"1\.jpg: .* tilted by (29|30|31)°, at most 15° is believed. Retake it from"):
        register(photograph(TEXTURE, ABOVE), photograph(TEXTURE, TILTED[0]))


def test_small_photos_are_refused():
    with pytest.raises(DataError, match=r"1\.jpg: is 200×100 pixels; registering photos needs 128 along"):
        register(photograph(TEXTURE, ABOVE), photograph(TEXTURE, TILTED[0], 200, 100))
