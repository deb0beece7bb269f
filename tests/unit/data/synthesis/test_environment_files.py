import math

import cv2
import numpy as np
import pytest
import torch

from neuropbr_core.data.synthesis.environments import find_environments, read_environment, read_environments
from neuropbr_core.errors import DataError
from neuropbr_core.materials.environments import irradiance, specular_light


def write_flat(path, radiance, header=b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n", order="-Y {} +X {}"):
    """An independent writer: RGBE without compression, from red, green, blue `(H, W, 3)`.

    Source: Ward 1991, "Real Pixels", Graphics Gems II, section II.5.
    """
    largest = radiance.max(axis=2)
    exponent = np.ceil(np.log2(largest * 256 / 255))
    mantissas = np.floor(radiance * 256 / 2.0 ** exponent[..., None])
    rgbe = np.concatenate((mantissas, exponent[..., None] + 128), axis=2).astype(np.uint8)
    height, width = radiance.shape[:2]
    path.write_bytes(header + order.format(height, width).encode() + b"\n" + rgbe.tobytes())
    return path


def noise(height=16, seed=0):
    return np.random.default_rng(seed).uniform(0.01, 9, (height, 2 * height, 3)).astype(np.float32)


def test_pixels_come_back_in_their_place_and_colour(tmp_path):
    radiance = noise(64)
    environment = read_environment(write_flat(tmp_path / "a.hdr", radiance))
    found = environment.radiance[:, 28:32]
    # Seen from within: the picture's right is clockwise from above, so azimuth grows to its left.
    expected = torch.from_numpy(radiance[28:32, ::-1].copy()).permute(2, 0, 1)
    # White balance and exposure are one factor a colour; blurring along azimuth changes little so near the horizon.
    for channel, original in zip(found, expected, strict=True):
        factor = (channel * original).sum() / (original * original).sum()
        torch.testing.assert_close(channel, factor * original, atol=0.03 * float(channel.max()), rtol=0)
    torch.testing.assert_close(irradiance(environment.radiance), torch.full((3,), math.pi), atol=1e-4, rtol=0)


def test_the_first_row_is_the_zenith(tmp_path):
    radiance = np.full((16, 32, 3), 0.1, np.float32)
    radiance[:2] = 10.0
    environment = read_environment(write_flat(tmp_path / "a.hdr", radiance))
    up, aside = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1), torch.tensor([0.9, 0.0, 0.4359]).view(3, 1, 1)
    smooth = torch.zeros(1, 1, 1)
    assert specular_light(environment, up, smooth).min() > 50 * specular_light(environment, aside, smooth).max()


def test_compressed_and_flat_files_are_alike(tmp_path):
    radiance = noise()
    write_flat(tmp_path / "flat.hdr", radiance)
    assert cv2.imwrite(str(tmp_path / "packed.hdr"), radiance[..., ::-1])
    flat, packed = (read_environment(tmp_path / f"{name}.hdr").radiance for name in ("flat", "packed"))
    torch.testing.assert_close(flat, packed, rtol=0.03, atol=0.05)  # mantissas have 8 bits


def test_exposure_and_cast_of_a_map_mean_nothing(tmp_path):
    radiance = noise()
    plain = read_environment(write_flat(tmp_path / "a.hdr", radiance)).radiance
    cast = read_environment(write_flat(tmp_path / "b.hdr", radiance * np.float32([64, 32, 16]))).radiance
    torch.testing.assert_close(plain, cast, rtol=0.06, atol=0.05)


def test_folders_are_listed_by_name(tmp_path):
    for name in ("b.hdr", "a.HDR", "c.pic"):
        write_flat(tmp_path / name, noise(4))
    (tmp_path / "INDEX.json").write_text("[]")
    assert list(find_environments(tmp_path)) == ["a.HDR", "b.hdr", "c.pic"]
    assert set(read_environments(find_environments(tmp_path))) == {"a.HDR", "b.hdr", "c.pic"}


def test_folders_without_maps_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder; give a folder of equirectangular \.hdr files"):
        find_environments(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no radiance map; allowed: \.hdr, \.rgbe, \.pic"):
        find_environments(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-3], "cannot be decoded; it is damaged or cut off"),
        (lambda content: content[:30], "states no size like"),
        (lambda content: b"", r"is no Radiance file \(these begin with #\?RADIANCE\)"),
        (lambda content: b"\x89PNG\r\n\x1a\n" + content, "is no Radiance file"),
        (lambda content: content.replace(b"rle_rgbe", b"rle_xyze"), "cannot be decoded; .* or stored as XYZE"),
        (lambda content: content.replace(b"-Y 16 +X 32", b"-Y 32 +X 16"), "is 16×32 pixels; .* twice as wide as high"),
        (
            lambda content: content.replace(b"-Y 16 +X 32", b"+X 32 -Y 16"),
            "states no size like .* rows from top",
        ),
    ],
)
def test_unusable_files_are_refused_without_noise(tmp_path, capfd, spoil, message):
    path = write_flat(tmp_path / "a.hdr", noise())
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        read_environment(path)
    assert str(path) in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.hdr: cannot be read \(No such file"):
        read_environment(tmp_path / "gone.hdr")


def test_a_map_without_light_is_named(tmp_path):
    radiance = np.full((16, 32, 3), 1e-9, np.float32)
    radiance[8:] = 1.0
    with pytest.raises(DataError, match=r"dark\.hdr: is dark above the horizon"):
        read_environment(write_flat(tmp_path / "dark.hdr", radiance))
