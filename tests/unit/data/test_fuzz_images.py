"""Images as accidents make them: whatever the bytes are, reading gives pixels of the promised form or a named error."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from neuropbr_core.data.checking.examine import MaterialFolder, SampleFolder, examine
from neuropbr_core.data.decoding import decode_image, describe_image, is_cut_off, verify_image
from neuropbr_core.data.images import read_image, read_map, read_photo, write_map
from neuropbr_core.data.importing.import_sets import import_materials
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, MAPS, NORMAL, ROUGHNESS

pytestmark = pytest.mark.slow

EXAMPLES = 150
CASES = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpg": ("L", "RGB", "CMYK"),
    "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "tga": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "webp": ("RGB", "RGBA"),
}


@st.composite
def encoded(draw: st.DrawFn) -> tuple[str, bytes]:
    """A sound file of any format and mode: its suffix and its bytes."""
    suffix = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[suffix]))
    width = draw(st.integers(1, 40))
    height = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (height, width), np.uint16))
    elif mode == "I":
        image = Image.fromarray(rng.integers(0, 2**31, (height, width), np.int32))
    elif mode == "F":
        image = Image.fromarray(rng.uniform(0, 1, (height, width)).astype(np.float32))
    elif mode == "LAB":
        image = Image.frombytes("LAB", (width, height), rng.bytes(width * height * 3))
    else:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 4), np.uint8), "RGBA").convert(mode)
    options: dict[str, object] = {}
    if draw(st.booleans()) and suffix in ("png", "jpg", "tif", "webp"):
        options["icc_profile"] = draw(st.binary(max_size=200))
    if draw(st.booleans()) and suffix in ("jpg", "png", "webp"):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(0, 12))
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    return suffix, buffer.getvalue()


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of any format that was cut, hit, or was never an image."""
    suffix, content = draw(encoded())
    damage = draw(st.sampled_from(["cut", "hit", "insert", "other suffix", "text", "empty"]))
    if damage == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif damage == "hit":
        hit = bytearray(content)
        for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            hit[place] = draw(st.integers(0, 255))
        content = bytes(hit)
    elif damage == "insert":
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.binary(max_size=64)) + content[place:]
    elif damage == "other suffix":
        suffix = draw(st.sampled_from([*sorted(MODES), "exr", "heic", "avif"]))
    elif damage == "text":
        content = draw(st.binary(max_size=200))
    else:
        content = b""
    return suffix, content


def write(folder: Path, file: tuple[str, bytes]) -> Path:
    path = folder / f"x.{file[0]}"
    path.write_bytes(file[1])
    return path


@CASES
@given(file=encoded(), colours=st.booleans(), least=st.sampled_from([None, 1, 4, 1000]))
def test_sound_images_are_read_in_the_promised_form(
    tmp_path: Path, file: tuple[str, bytes], colours: bool, least: int | None
) -> None:
    path = write(tmp_path, file)
    facts = describe_image(path)
    decoded = decode_image(path, colours=colours, least=least)
    assert decoded.pixels.dtype in (np.uint8, np.uint16)
    assert decoded.pixels.shape[2] in (1, 3)
    if least is None:
        assert decoded.pixels.shape[:2] == (facts.height, facts.width)
    assert min(decoded.pixels.shape[:2]) >= min(least or 10**9, facts.width, facts.height)
    if decoded.alpha is not None:
        assert decoded.alpha.shape == (*decoded.pixels.shape[:2], 1)
    verify_image(path)
    assert not is_cut_off(path)
    photo = read_photo(path, 64)
    assert photo.pixels.dtype == np.uint8


@CASES
@given(file=damaged())
def test_damaged_images_are_read_or_named(tmp_path: Path, file: tuple[str, bytes]) -> None:
    path = write(tmp_path, file)
    is_cut_off(path)
    readers = (
        describe_image,
        verify_image,
        read_image,
        read_photo,
        lambda path: read_image(path, "L"),
        lambda path: read_map(path, ALBEDO, 8),
        lambda path: read_map(path, ROUGHNESS),
        lambda path: read_map(path, NORMAL),
    )
    for read in readers:
        try:
            read(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017 - an error is one of two allowed outcomes


@CASES
@given(file=damaged())
def test_a_check_goes_on_after_any_image(tmp_path: Path, file: tuple[str, bytes]) -> None:
    folder = tmp_path / "oak"
    for spec in MAPS.values():
        write_map(folder, spec, np.full((spec.channels, 8, 8), 128, np.uint8))
    (folder / "albedo.png").write_bytes(file[1])
    assert examine(MaterialFolder(folder)).files == 4
    assert examine(SampleFolder(folder, "clean/sample_0000", (folder / "albedo.png", folder / "normal.png"))).files == 2


@CASES
@given(
    names=st.lists(
        st.builds(
            "{}{}{}{}".format,
            st.sampled_from(["X", "T_X", "", "rusty_metal", "Ä 1"]),
            st.sampled_from(["_", "-", " ", "", "."]),
            st.one_of(
                st.sampled_from(
                    ["Color", "NormalGL", "N", "D", "ORM", "col_1", "MaskMap", "Roughness (1)", "REFL", "AO"]
                ),
                st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), max_size=12),
            ),
            st.sampled_from([".png", ".PNG", ".tif", ".psd", ".exr"]),
        ),
        max_size=6,
    ),
    file=st.one_of(encoded(), damaged()),
)
def test_any_set_is_imported_or_refused(tmp_path: Path, names: list[str], file: tuple[str, bytes]) -> None:
    source = tmp_path / "in"
    source.mkdir(exist_ok=True)
    for old in source.iterdir():
        old.unlink()
    for name in names:
        # Names that a file system does not take are no file's name.
        if len(name.encode()) < 200 and name not in (".", ".."):
            (source / name).write_bytes(file[1])
    try:
        report = import_materials(source, tmp_path / "out", dry_run=True, crop=True)
    except DataError:
        return
    assert not (tmp_path / "out").exists()
    assert all(material.status in ("planned", "refused") for material in report.materials)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A header that promises what no memory holds, in a file of a few bytes."""
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    content = bytearray((tmp_path / "x.png").read_bytes())
    content[16:24] = (2_000_000_000).to_bytes(4) + (2_000_000_000).to_bytes(4)
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4)
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.png: .*(GiB|cannot be decoded)"):
        read_image(tmp_path / "x.png")
