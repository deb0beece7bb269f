"""Photos as phones store them."""

import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from neuropbr_core.data.images.read import Undecodable, describe_image, read_image, read_view
from neuropbr_core.data.layout.paths import list_photos
from neuropbr_core.errors import DataError


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
