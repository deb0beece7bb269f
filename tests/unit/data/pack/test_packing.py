"""When a recipe packs its images, and what it says."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from neuropbr_core.data.images import read_view, write_map, write_png
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.data.pack import choose as packing
from neuropbr_core.data.pack.choose import digest_images, list_images, open_images
from neuropbr_core.data.pack.store import VIEW, DecodedImages, PackedImages, read_image, shards
from neuropbr_core.datasets.layout.source import LayoutSource
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data
from neuropbr_core.reporting import RecordingReporter, reporting_to

SIZE = 8


@pytest.fixture
def root(tmp_path):
    """Three samples, clean and dirty, of two materials."""
    rng = np.random.default_rng(0)
    names = {f"sample_000{index}": f"m{index % 2}" for index in range(3)}
    for source, name, view in itertools.product(("clean", "dirty"), names, range(3)):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        write_png(tmp_path / "input" / source / name / f"{view}.png", pixels)
    for material, spec in itertools.product(("m0", "m1"), MAPS.values()):
        stored = rng.integers(0, 256, (spec.channels, SIZE, SIZE), dtype=np.uint8)
        write_map(tmp_path / "output" / material, spec, stored)
    (tmp_path / "input/render_metadata.json").write_text(json.dumps(names))
    return tmp_path


@pytest.fixture
def data(root):
    return Data(root=str(root), image_size=SIZE, output_size=SIZE)


@pytest.fixture
def said():
    with reporting_to(RecordingReporter()) as told:
        yield told.lines


@pytest.fixture
def images_of(said):
    def open_(data):
        source, samples = LayoutSource(data), find_samples(data)
        return open_images(source, samples, data, digest_images(source, samples))

    return open_


def test_images_are_packed_on_first_use(data, root, said, images_of):
    assert isinstance(images_of(data), PackedImages)
    assert said == [f"Packing 17 images into {root / '.pack'}, once: 0.0 MB"]
    assert isinstance(images_of(data), PackedImages)
    assert len(said) == 1


def test_images_of_a_sample_lie_together(data):
    asked = list_images(find_samples(data))
    assert len(asked) == len(set(asked)) == 3 * 3 + 2 * 4
    assert [role for role, _ in asked[:7]] == [VIEW] * 3 + list(MAPS)


def test_curricula_and_splits_share_a_pack(data, said, images_of):
    images_of(data)
    images_of(replace(data, render_curriculum="mixed"))
    assert [line.split()[1] for line in said] == ["17", "9"]
    images_of(replace(data, render_curriculum="dirty", views=2, val_ratio=0.5))
    assert len(said) == 2


def test_a_changed_file_is_packed_again_and_the_old_pixels_are_not_used(data, root, said, images_of):
    path = root / "input/clean/sample_0001/2.png"
    before = images_of(data).view(path).copy()
    pixels = np.moveaxis(before, 0, 2).copy()
    pixels[3, 4, 0] ^= 1
    write_png(path, pixels)
    np.testing.assert_array_equal(images_of(data).view(path), np.moveaxis(pixels, 2, 0))
    assert said[1].startswith("Packing 1 images")


def test_other_sizes_are_packed_beside(data, root, said, images_of):
    images_of(data)
    small = images_of(replace(data, image_size=4))
    path = root / "input/clean/sample_0000/0.png"
    np.testing.assert_array_equal(small.view(path), read_view(path, 4))
    assert said[1].startswith("Packing 9 images")
    assert len(shards(root / ".pack")) == 2


def test_packing_can_be_off_or_elsewhere(data, root, tmp_path, said, images_of):
    assert isinstance(images_of(replace(data, pack="off")), DecodedImages)
    assert not (root / ".pack").exists()
    assert isinstance(images_of(replace(data, pack=str(tmp_path / "other"))), PackedImages)
    assert len(shards(tmp_path / "other")) == 1
    assert not (root / ".pack").exists()


def test_a_folder_that_cannot_be_written_is_left_alone(data, root, said, images_of, monkeypatch):
    monkeypatch.setattr(packing.os, "access", lambda *_: False)
    assert isinstance(images_of(data), DecodedImages)
    reason = f"{root} cannot be written"
    expected = f"Not packing the images into {root / '.pack'}: {reason}. They are decoded every time; see data.pack"
    assert said == [expected]
    monkeypatch.undo()
    images_of(data)
    monkeypatch.setattr(packing.os, "access", lambda *_: False)
    assert isinstance(images_of(data), PackedImages)  # a complete pack need not be written


def test_half_the_free_disk_is_not_taken_without_being_asked(data, root, said, images_of, monkeypatch):
    needed = 9 * 3 * SIZE**2 + 2 * 8 * SIZE**2
    usage = packing.disk_usage(root)._replace(free=2 * needed - 1)
    monkeypatch.setattr(packing, "disk_usage", lambda _: usage)
    assert isinstance(images_of(data), DecodedImages)
    assert ": it takes 0.0 MB, and the disk has 0.0 MB left. They are decoded every time" in said[0]
    assert isinstance(images_of(replace(data, pack=str(root / ".pack"))), PackedImages)


def test_damaged_images_are_all_named(data, root, images_of):
    for name in ("sample_0000/1.png", "sample_0002/0.png"):
        path = root / "input/clean" / name
        content = bytearray(path.read_bytes())
        content[60] ^= 1  # in the middle: the file has its size and its end
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        images_of(data)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0][-17:] for line in lines] == ["sample_0000/1.png", "sample_0002/0.png"]


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (np.zeros((3, 4, 5), np.uint8), r"uint8 \(3, 4, 5\)"),
        (np.zeros((3, 4, 4), np.float32), r"float32 \(3, 4, 4\)"),
        ("pixels", "a str"),
    ],
)
def test_what_a_source_returns_is_checked(returned, found):
    class Careless(LayoutSource):
        def read_view(self, key, size):
            return returned

    with pytest.raises(DataError, match=rf"Careless returned {found} for view 7; it must be uint8 \(3, 4, 4\)"):
        read_image(Careless(Data()), 7, VIEW, 4)
