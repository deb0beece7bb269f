"""Every depth and layout of channels comes out on one scale, in sRGB where it is colour."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from neuropbr_core.data import decoding
from neuropbr_core.data.decoding import (
    Undecodable,
    average_blocks,
    decode_image,
    decode_srgb,
    describe_image,
    encode_srgb,
    is_cut_off,
    verify_image,
    why_unread,
)
from neuropbr_core.data.images import read_alpha, read_image, read_map, read_photo
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, ROUGHNESS

RAMP = np.linspace(0, 1, 16, dtype=np.float64).reshape(4, 4)


def png(path, values, colour_type, depth, *, data=True):
    """A PNG by the standard, `(H, W, C)` of any depth."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    kind = ">u2" if depth == 16 else "u1"
    rows = b"".join(b"\0" + row.astype(kind).tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if data:
        content += chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(content + chunk(b"IEND", b""))


def tiff(path, values, sample_format, order="<"):
    """A TIFF by the standard, uncompressed, of any type; `(H, W)` or `(H, W, C)`."""
    height, width = values.shape[:2]
    samples = 1 if values.ndim == 2 else values.shape[2]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    bits = values.dtype.itemsize * 8
    extra = [1] if samples in (2, 4) else []
    photometric = 2 if samples >= 3 else 1
    tags = [(256, 3, [width]), (257, 3, [height]), (258, 3, [bits] * samples), (259, 3, [1]), (262, 3, [photometric])]
    tags += [(273, 4, [8]), (277, 3, [samples]), (278, 3, [height]), (279, 4, [len(data)])]
    tags += [(284, 3, [1])] + ([(338, 3, [2])] if extra else []) + [(339, 3, [sample_format] * samples)]
    start = 8 + len(data)
    tail = start + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, kind, numbers in tags:
        packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(packed) > 4:
            value = struct.pack(f"{order}I", tail + len(more))
            more += packed
        else:
            value = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + value
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    path.write_bytes(head + data + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0) + more)


_UNKNOWN = {("u4", 2), ("i4", 2), ("f4", 2), ("f8", 2)}
"""Types and numbers of channels that neither Pillow nor OpenCV decodes."""


def full_scale(dtype):
    return RAMP * np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else RAMP


def channels(values, count):
    """The ramp in each channel, and alpha that is the reverse."""
    if count == 1:
        return values
    if count == 2:
        return np.stack((values, values[::-1]), axis=2)
    layers = [values, values.T, values[:, ::-1]]
    if count == 4:
        layers.append(values[::-1])
    return np.stack(layers, axis=2)


def share(decoded):
    """Values in [0, 1]."""
    return decoded.astype(np.float64) / np.iinfo(decoded.dtype).max


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("dtype", "sample_format"),
    [("u1", 1), ("u2", 1), ("u4", 1), ("i2", 2), ("i4", 2), ("f4", 3), ("f8", 3)],
)
def test_every_depth_and_layout_of_tiff(tmp_path, dtype, sample_format, count, order):
    kind = np.dtype(dtype)
    values = channels(full_scale(kind), count)
    stored = values if kind.kind == "f" else np.floor(values)
    path = tmp_path / "x.tif"
    tiff(path, stored.astype(kind), sample_format, order)
    if (dtype, count) in _UNKNOWN:
        # What no decoder knows is refused, never read as something else.
        with pytest.raises(DataError, match="cannot be decoded"):
            decode_image(path, colours=False)
        return
    decoded = decode_image(path, colours=False)
    expected = channels(RAMP, count).reshape(4, 4, -1)
    coloured = expected[..., : 3 if count > 2 else 1]
    assert np.abs(share(decoded.pixels) - coloured).max() < 1 / 250
    if count == 4 or (count == 2 and dtype == "u1"):
        assert np.abs(share(decoded.alpha) - expected[..., -1:]).max() < 1 / 250
    if dtype in ("u2", "u4", "i4", "f4") and count != 2:
        assert decoded.pixels.dtype == np.uint16
        assert np.abs(share(decoded.pixels) - coloured).max() < 1 / 60_000


@pytest.mark.parametrize(("colour_type", "count"), [(0, 1), (4, 2), (2, 3), (6, 4)])
@pytest.mark.parametrize("depth", [8, 16])
def test_every_depth_and_layout_of_png(tmp_path, colour_type, count, depth):
    largest = 2**depth - 1
    values = channels(np.rint(RAMP * largest), count).reshape(4, 4, -1)
    png(tmp_path / "x.png", values, colour_type, depth)
    decoded = decode_image(tmp_path / "x.png", colours=False)
    np.testing.assert_array_equal(decoded.pixels, values[..., : 3 if count > 2 else 1])
    assert decoded.pixels.dtype == (np.uint16 if depth == 16 else np.uint8)
    if count in (2, 4):
        np.testing.assert_array_equal(decoded.alpha, values[..., -1:])
        np.testing.assert_array_equal(read_alpha(tmp_path / "x.png"), values[..., -1:])
    else:
        assert decoded.alpha is None
    facts = describe_image(tmp_path / "x.png")
    assert (facts.channels, facts.bits, facts.alpha) == (3 if count > 2 else 1, depth, count in (2, 4))


def test_16_bit_rgb_of_equal_channels_is_a_grey_map(tmp_path):
    ramp = np.array([[64, 80, 96, 112], [129, 145, 161, 177]], np.uint16) * 257
    cv2.imwrite(str(tmp_path / "x.png"), np.repeat(ramp[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", "L")[..., 0], ramp)
    cv2.imwrite(str(tmp_path / "m.png"), np.full((4, 4, 3), 32768, np.uint16))
    assert (read_map(tmp_path / "m.png", ROUGHNESS) == 128).all()


def test_the_spread_of_16_bit_channels_is_compared_in_8_bits(tmp_path):
    pixels = np.full((4, 4, 3), 30_000, np.uint16)
    pixels[..., 0] += 4_000  # 15.6 levels
    cv2.imwrite(str(tmp_path / "near.png"), pixels)
    assert read_image(tmp_path / "near.png", "L").dtype == np.uint16
    pixels[..., 0] += 1_000
    cv2.imwrite(str(tmp_path / "far.png"), pixels)
    with pytest.raises(DataError, match="its channels differ by up to 19 of 255"):
        read_image(tmp_path / "far.png", "L")


def test_32_bit_numbers_of_unclear_scale_are_refused(tmp_path):
    tiff(tmp_path / "x.tif", (RAMP * 65535).astype(np.int32), 2)
    with pytest.raises(DataError, match="has 32 bits, but no value above 65535"):
        read_image(tmp_path / "x.tif", "L")


def test_floats_are_linear_colours_or_values(tmp_path):
    tiff(tmp_path / "x.tif", channels(RAMP, 3).astype(np.float32), 3)
    assert np.abs(share(decode_image(tmp_path / "x.tif", colours=False).pixels) - channels(RAMP, 3)).max() < 1e-4
    encoded = encode_srgb(channels(RAMP, 3).astype(np.float32))
    assert np.abs(share(decode_image(tmp_path / "x.tif", colours=True).pixels) - encoded).max() < 1e-4
    tiff(tmp_path / "high.tif", (RAMP * 3).astype(np.float32), 3)
    with pytest.raises(DataError, match="holds floating-point values from 0 to 3, and those of a map are from 0 to 1"):
        decode_image(tmp_path / "high.tif", colours=False)
    tiff(tmp_path / "nan.tif", np.full((4, 4), np.nan, np.float32), 3)
    with pytest.raises(DataError, match="contains NaN"):
        decode_image(tmp_path / "nan.tif", colours=True)


def test_srgb_there_and_back():
    values = np.linspace(0, 1, 100, dtype=np.float32)
    np.testing.assert_allclose(decode_srgb(encode_srgb(values)), values, atol=1e-5)
    assert abs(float(encode_srgb(np.float32(0.2140411))) - 0.5) < 1e-4  # IEC 61966-2-1: 0.5 is 21.4 % of white


@pytest.mark.parametrize("names", [("R", "G", "B"), ("R", "G", "B", "A"), ("Y",), ("V",)])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_exr(tmp_path, names, kind):
    openexr = pytest.importorskip("OpenEXR")
    layers = {name: (RAMP if name != "A" else np.full((4, 4), 0.5)).astype(kind) for name in names}
    if "A" in names:
        layers = {name: plane if name == "A" else plane * kind(0.5) for name, plane in layers.items()}
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    openexr.File(header, layers).write(str(tmp_path / "x.exr"))
    decoded = decode_image(tmp_path / "x.exr", colours=False)
    assert decoded.pixels.shape == (4, 4, 3 if "R" in names else 1)
    assert np.abs(share(decoded.pixels) - RAMP[..., None]).max() < 1e-3
    albedo = read_map(tmp_path / "x.exr", ALBEDO)
    assert np.abs(albedo[0] / 255 - encode_srgb(RAMP.astype(np.float32))).max() < 0.004
    facts = describe_image(tmp_path / "x.exr")
    assert (facts.size, facts.bits, facts.alpha) == ("4×4", 32, "A" in names)
    content = (tmp_path / "x.exr").read_bytes()
    (tmp_path / "cut.exr").write_bytes(content[: len(content) - 20])
    with pytest.raises(Undecodable, match=r"cut\.exr: cannot be decoded"):
        decode_image(tmp_path / "cut.exr", colours=False)


def test_exr_without_its_reader(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "OpenEXR", None)
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    (tmp_path / "x.exr").write_bytes(b"v/1\x01")
    with pytest.raises(DataError, match=r"pip install 'neuropbr\[exr\]'"):
        read_image(tmp_path / "x.exr")
    assert "OpenEXR" in str(why_unread("x.exr"))


def adobe_rgb_like():
    """A profile with wider primaries and a gamma of 2.2, from its tags."""

    def fixed(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    def text(words):
        coded = words.encode("utf-16-be")
        return b"mluc\0\0\0\0" + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", len(coded), 28) + coded

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.19921875 * 256)) + b"\0\0"
    tags = [(b"desc", text("Wide")), (b"cprt", text("none")), (b"wtpt", xyz(0.96419, 1, 0.82489))]
    tags += [(b"rXYZ", xyz(0.60974, 0.31111, 0.01947)), (b"gXYZ", xyz(0.20528, 0.62567, 0.06087))]
    tags += [(b"bXYZ", xyz(0.14919, 0.06322, 0.74457)), (b"rTRC", curve), (b"gTRC", curve), (b"bTRC", curve)]
    offset = 128 + 4 + 12 * len(tags)
    table = struct.pack(">I", len(tags))
    data = b""
    for name, content in tags:
        padded = content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", offset + len(data), len(padded))
        data += padded
    header = struct.pack(">I4sI4s4s4s", 128 + len(table + data), b"none", 0x04000000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2022, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    header += fixed(0.9642) + fixed(1) + fixed(0.82491)
    return header.ljust(128, b"\0") + table + data


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """The same colours as plain sRGB and with a wider profile, in several formats."""
    folder = tmp_path_factory.mktemp("profiled")
    rng = np.random.default_rng(0)
    colours = np.repeat(np.repeat(rng.integers(60, 200, (8, 8, 3), np.uint8), 8, axis=0), 8, axis=1)
    image = Image.fromarray(colours)
    profile = adobe_rgb_like()
    (folder / "wide.icc").write_bytes(profile)
    wide = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), str(folder / "wide.icc"), renderingIntent=1)
    image.save(folder / "srgb.png")
    wide.save(folder / "wide.png", icc_profile=profile)
    wide.save(folder / "wide.tif", icc_profile=profile)
    wide.save(folder / "wide.jpg", icc_profile=profile, quality=98, subsampling=0)
    wide.save(folder / "wide.webp", icc_profile=profile, lossless=True)
    wide.save(folder / "broken.png", icc_profile=profile[:200])
    assert np.abs(np.asarray(wide).astype(int) - colours).mean() > 5
    return folder, colours


@pytest.mark.parametrize("name", ["wide.png", "wide.tif", "wide.jpg", "wide.webp"])
def test_photos_and_albedo_are_converted_by_their_profile(profiled, name):
    folder, colours = profiled
    converted = np.moveaxis(read_photo(folder / name).pixels, 0, 2).astype(int)
    assert np.abs(converted - colours).mean() < 1
    assert np.abs(converted.mean(axis=(0, 1)) - colours.mean(axis=(0, 1))).max() < 1
    albedo = np.moveaxis(read_map(folder / name, ALBEDO), 0, 2)
    np.testing.assert_array_equal(albedo, converted)


def test_profiles_of_other_maps_are_not_applied(profiled):
    folder, _ = profiled
    stored = np.asarray(Image.open(folder / "wide.png"))
    np.testing.assert_array_equal(read_image(folder / "wide.png"), stored)


def test_16_bit_colours_are_converted_too(profiled, tmp_path):
    folder, colours = profiled
    deep = np.asarray(Image.open(folder / "wide.png")).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "x.tif"), deep[..., ::-1])
    with Image.open(tmp_path / "x.tif") as image:
        tags = image.tag_v2
        assert tags[258] == (16, 16, 16)
    content = (tmp_path / "x.tif").read_bytes()
    # A 16-bit PNG with a profile: Pillow writes no such file, so the chunk is put in by hand.
    cv2.imwrite(str(tmp_path / "x.png"), deep[..., ::-1])
    content = (tmp_path / "x.png").read_bytes()
    chunk = b"iCCPwide\0\0" + zlib.compress(adobe_rgb_like())
    packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "x.png").write_bytes(content[:33] + packed + content[33:])
    decoded = decode_image(tmp_path / "x.png", colours=True)
    assert decoded.pixels.dtype == np.uint16
    assert np.abs(decoded.pixels / 257 - colours).mean() < 1


def test_a_damaged_profile_is_a_note(profiled):
    folder, _ = profiled
    photo = read_photo(folder / "broken.png")
    assert "its colour profile" in photo.note
    assert photo.note.endswith("taken as sRGB")


def test_transparency_is_a_mask(tmp_path):
    pixels = np.full((8, 8, 4), (200, 60, 50, 255), np.uint8)
    pixels[:, :2] = (0, 0, 255, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    photo = read_photo(tmp_path / "x.png")
    assert photo.mask is not None
    np.testing.assert_array_equal(photo.mask, pixels[..., 3] > 0)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "full.png")
    assert read_photo(tmp_path / "full.png").mask is None


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_large_photos_are_averaged_while_they_are_read(tmp_path, suffix):
    rng = np.random.default_rng(0)
    coarse = np.repeat(np.repeat(rng.integers(0, 256, (64, 80, 3), np.uint8), 64, axis=0), 64, axis=1)
    Image.fromarray(coarse).save(tmp_path / f"x.{suffix}", quality=95)
    photo = read_photo(tmp_path / f"x.{suffix}", 256)
    assert photo.pixels.shape == (3, 1024, 1280)
    small = photo.pixels.reshape(3, 64, 16, 80, 16).mean(axis=(2, 4))
    assert np.abs(np.moveaxis(small, 0, 2) - coarse[::64, ::64]).mean() < 3
    assert read_photo(tmp_path / f"x.{suffix}").pixels.shape == (3, 2048, 2560)


def test_blocks_are_averaged():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    expected = pixels[:8, :6].reshape(4, 2, 3, 2, 3).mean(axis=(1, 3))
    assert np.abs(average_blocks(pixels, 2) - expected).max() <= 0.5
    assert np.abs(average_blocks(pixels, 2, deep=True) / 257 - expected).max() < 0.01


def test_what_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (400, 300)).save(tmp_path / "x.png")
    monkeypatch.setattr(decoding, "total_memory", lambda: 1 << 20)
    with pytest.raises(DataError, match=r"x\.png: is 400×300 pixels, and decoding it takes .* GiB; this machine has"):
        read_image(tmp_path / "x.png")


def test_pillows_limit_stays_for_others(tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    Image.new("L", (20_000, 10_000)).save(tmp_path / "x.png")  # above the limit at which Pillow refuses
    assert describe_image(tmp_path / "x.png").size == "20000×10000"
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pipes_are_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match="is no regular file"):
        read_image(tmp_path / "x.png")


def test_a_png_without_data(tmp_path):
    png(tmp_path / "x.png", np.zeros((4, 4, 1)), 0, 8, data=False)
    assert is_cut_off(tmp_path / "x.png")
    for read in (verify_image, read_image):
        with pytest.raises(Undecodable, match="cannot be decoded"):
            read(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_ends_are_looked_for(tmp_path, suffix):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / f"x.{suffix}")
    content = (tmp_path / f"x.{suffix}").read_bytes()
    assert not is_cut_off(tmp_path / f"x.{suffix}")
    (tmp_path / "cut").write_bytes(content[:-30])
    assert is_cut_off(tmp_path / "cut")
    (tmp_path / "more").write_bytes(content + bytes(100_000))  # such as the video of a motion photo
    assert not is_cut_off(tmp_path / "more")
