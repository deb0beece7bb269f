"""Pixels from image files and back, those of phones included."""

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from neuropbr_core.data.decoding import Undecodable, describe_image, is_cut_off, verify_image
from neuropbr_core.data.images import fit_photo, read_image, read_map, read_view, write_map, write_png
from neuropbr_core.data.layout.paths import list_photos
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, NORMAL, ROUGHNESS


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, size=shape, dtype=dtype)


def test_rgb_round_trip(tmp_path):
    pixels = noise(5, 7, 3)
    write_png(tmp_path / "a" / "b.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a" / "b.png"), pixels)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]


def test_16_bit_grey_is_read_as_16_bit(tmp_path):
    pixels = noise(6, 6, dtype=np.uint16)
    write_png(tmp_path / "deep.png", pixels)
    read = read_image(tmp_path / "deep.png", "L")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[..., 0], pixels)
    expected = np.rint(pixels / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_map(tmp_path / "deep.png", ROUGHNESS)[0], expected)


def write_deep_png(path, pixels):
    """A 16-bit PNG by the standard: big-endian values, filter 0."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_is_read_as_16_bit(tmp_path, channels):
    pixels = noise(7, 5, channels, dtype=np.uint16)
    write_deep_png(tmp_path / "deep.png", pixels)
    read = read_image(tmp_path / "deep.png")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels[..., :3])
    expected = np.rint(pixels[..., :3] / 257).astype(np.uint8)
    np.testing.assert_array_equal(np.moveaxis(read_view(tmp_path / "deep.png"), 0, 2), expected)


def test_16_bit_colour_tiff_is_read_as_16_bit(tmp_path):
    pixels = noise(4, 6, 3, dtype=np.uint16)
    entries = [(256, 6), (257, 4), (258, 16), (259, 1), (262, 2), (273, 134), (277, 3), (278, 4), (279, 144)]
    tags = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries if tag != 258)
    depth = struct.pack("<HHII", 258, 3, 3, 128)
    folder = tags[:24] + depth + tags[24:]
    header = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + folder + struct.pack("<I", 0)
    content = header.ljust(128, b"\0") + struct.pack("<HHH", 16, 16, 16) + pixels.astype("<u2").tobytes()
    (tmp_path / "deep.tiff").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tiff"), pixels)


def test_facts_of_a_header(tmp_path):
    write_deep_png(tmp_path / "deep.png", noise(7, 5, 4, dtype=np.uint16))
    facts = describe_image(tmp_path / "deep.png")
    assert (facts.size, facts.channels, facts.bits, facts.alpha) == ("5×7", 3, 16, True)
    write_png(tmp_path / "grey.png", noise(3, 4))
    facts = describe_image(tmp_path / "grey.png")
    assert (facts.size, facts.channels, facts.bits, facts.alpha) == ("4×3", 1, 8, False)
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("png", "jpg"):
        Image.fromarray(noise(3, 5, 3)).save(tmp_path / f"turned.{suffix}", exif=exif)
        assert describe_image(tmp_path / f"turned.{suffix}").size == "3×5"


def test_whether_a_file_is_cut_off(tmp_path):
    write_png(tmp_path / "whole.png", noise(64, 64, 3))
    content = (tmp_path / "whole.png").read_bytes()
    assert not is_cut_off(tmp_path / "whole.png")
    for length in (0, 40, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.png").write_bytes(content[:length])
        assert is_cut_off(tmp_path / "cut.png")


def test_a_grey_normal_map_is_refused(tmp_path):
    write_png(tmp_path / "normal.png", noise(4, 4))
    with pytest.raises(DataError, match=r"normal\.png: is grey; a normal map has three channels\. Is it a height map"):
        read_map(tmp_path / "normal.png", NORMAL)


def test_16_bit_is_averaged_before_rounding(tmp_path):
    # in 8-bit levels 0.47, 0.47, 0.47, 1.17: their mean, 0.64, rounds to 1; the mean of the rounded, 0.25, to 0
    write_png(tmp_path / "deep.png", np.array([[120, 120], [120, 300]], np.uint16))
    assert read_map(tmp_path / "deep.png", ROUGHNESS, 1).item() == 1


def test_grey_expands_and_alpha_is_dropped_not_blended(tmp_path):
    grey = noise(4, 4)
    write_png(tmp_path / "grey.png", grey)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))
    rgba = noise(4, 4, 4)
    rgba[..., 3] = 0
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), rgba[..., :3])


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "palette.png", transparency=b"\x00\xff")
    expected = [[[10, 20, 30], [200, 100, 50]], [[200, 100, 50], [10, 20, 30]]]
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), expected)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    pixels = noise(3, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), np.rot90(pixels, -1))


def test_a_grey_map_stored_as_rgb_is_accepted_and_a_coloured_one_refused(tmp_path):
    grey = np.repeat(noise(4, 4, 1), 3, axis=2)
    write_png(tmp_path / "grey.png", grey)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", "L"), grey[..., :1])
    write_png(tmp_path / "orm.png", np.array([[[10, 200, 30]]], np.uint8))
    with pytest.raises(DataError, match=r"orm\.png: is coloured \(its channels differ by up to 190 of 255\)"):
        read_image(tmp_path / "orm.png", "L")


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.95])
def test_truncated_files_are_refused_by_name(tmp_path, keep):
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(buffer, "PNG")
    content = buffer.getvalue()
    (tmp_path / "cut.png").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match=r"cut\.png: cannot be decoded \(.+\); restore the file"):
        read_image(tmp_path / "cut.png")


def test_a_flipped_bit_is_found_by_its_checksum(tmp_path):
    write_png(tmp_path / "hit.png", noise(64, 64, 3))
    verify_image(tmp_path / "hit.png")
    content = bytearray((tmp_path / "hit.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "hit.png").write_bytes(content)
    with pytest.raises(DataError, match=r"hit\.png: cannot be decoded"):
        verify_image(tmp_path / "hit.png")


def test_missing_and_text_files(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match=r"text\.png: cannot be decoded \(cannot identify image file\)"):
        read_image(tmp_path / "text.png")


def test_views_become_square_channels_first(tmp_path):
    write_png(tmp_path / "view.png", noise(6, 8, 3))
    assert read_view(tmp_path / "view.png").shape == (3, 6, 8)
    assert read_view(tmp_path / "view.png", 4).shape == (3, 4, 4)


def test_shrinking_averages_areas(tmp_path):
    pixels = noise(4, 4, 3)
    write_png(tmp_path / "albedo.png", pixels)
    mean = pixels.reshape(2, 2, 2, 2, 3).mean(axis=(1, 3))
    shrunk = np.moveaxis(read_map(tmp_path / "albedo.png", ALBEDO, 2), 0, 2)
    assert np.abs(shrunk - mean).max() <= 1  # Pillow rounds after each axis


def test_shrunk_normals_are_unit(tmp_path):
    tilted = np.array([0.6, 0.0, 0.8])
    vectors = np.array([[tilted, tilted * [-1, 1, 1]], [tilted, tilted * [-1, 1, 1]]])
    write_map(tmp_path, NORMAL, np.moveaxis(np.rint((vectors + 1) * 127.5).astype(np.uint8), 2, 0))
    normal = read_map(tmp_path / "normal.png", NORMAL, 1)[:, 0, 0] / 127.5 - 1
    np.testing.assert_allclose(normal, [0, 0, 1], atol=1 / 127)
    enlarged = read_map(tmp_path / "normal.png", NORMAL, 8) / 127.5 - 1
    np.testing.assert_allclose(np.linalg.norm(enlarged, axis=0), 1, atol=0.012)


def test_normals_that_cancel_face_the_viewer(tmp_path):
    stored = np.array([[255, 0], [0, 255]], np.uint8)
    write_map(tmp_path, NORMAL, np.stack([stored, stored, stored]))
    assert read_map(tmp_path / "normal.png", NORMAL, 1)[:, 0, 0].tolist() == [128, 128, 255]


def test_a_map_must_be_square(tmp_path):
    write_png(tmp_path / "albedo.png", noise(2, 4, 3))
    with pytest.raises(DataError, match=r"albedo\.png: is 4×2 pixels; a map is square"):
        read_map(tmp_path / "albedo.png", ALBEDO, 2)


def test_writers_refuse_other_shapes(tmp_path):
    with pytest.raises(ValueError, match="uint16 pixels of shape"):
        write_png(tmp_path / "a.png", noise(2, 2, 3, dtype=np.uint16))
    with pytest.raises(ValueError, match="roughness has 1 channels first"):
        write_map(tmp_path, ROUGHNESS, noise(3, 2, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("height", "width"), [(12, 12), (12, 20), (9, 30), (100, 7)])
def test_a_shrunk_photo_has_the_means_of_the_areas_that_its_pixels_cover(height, width):
    photo = noise(3, height, width)
    size = 7
    rows, columns = (np.zeros((size, side)) for side in (height, width))
    for weights, side in ((rows, height), (columns, width)):
        for index in range(size):
            start, end = index * side / size, (index + 1) * side / size
            edges = np.arange(side)
            weights[index] = np.clip(np.minimum(edges + 1, end) - np.maximum(edges, start), 0, 1) * size / side
    expected = np.einsum("iy,jx,cyx->cij", rows, columns, photo)
    assert np.abs(fit_photo(photo, size) - expected).max() <= 0.51


def test_a_photo_is_enlarged_without_steps_and_kept_where_it_fits():
    ramp = np.broadcast_to(np.linspace(20, 230, 8).astype(np.uint8), (3, 8, 8))
    enlarged = fit_photo(ramp, 32).astype(int)
    assert enlarged.shape == (3, 32, 32)
    assert np.abs(np.diff(enlarged[0, 16])).max() <= 12
    assert fit_photo(ramp, 8) is ramp
    thin = fit_photo(noise(3, 4, 64), 16)  # one side grows while the other shrinks
    assert thin.shape == (3, 16, 16)


def gradient(width: int = 96, height: int = 64) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Red grows to the right, green downwards: what HEVC keeps almost exactly."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack((red, green, np.full_like(red, 128)), axis=-1).round().astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.HEIC"
    pillow_heif.from_pillow(Image.fromarray(gradient())).save(path, quality=95)
    return path


def test_a_heic_photo_is_read(photo: Path) -> None:
    pixels = read_image(photo)
    assert pixels.shape == (64, 96, 3)
    assert np.abs(pixels.astype(int) - gradient()).mean() < 3
    assert read_view(photo, 32).shape == (3, 32, 32)
    facts = describe_image(photo)
    assert (facts.width, facts.height, facts.channels, facts.bits) == (96, 64, 3, 8)
    assert list_photos(photo.parent) == (photo,)


def test_a_turned_photo_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: turned clockwise to be shown
    path = tmp_path / "turned.heic"
    pillow_heif.from_pillow(Image.fromarray(gradient())).save(path, quality=95, exif=exif.tobytes())
    pixels = read_image(path).astype(int)
    expected = np.rot90(gradient(), k=-1).astype(int)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < 3
    assert describe_image(path).size == "64×96"


def test_a_truncated_photo_is_refused(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-200])
    with pytest.raises(Undecodable, match=r"photo\.HEIC: cannot be decoded"):
        read_image(photo)


def test_without_the_library_the_way_out_is_said(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match=r"HEIC needs pillow-heif; install it with `pip install 'neuropbr\[heif\]'`"):
        read_image(photo)
