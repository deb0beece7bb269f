"""Packs: shards that are whole or not there, found by what they hold."""

import errno
import fcntl
import os
import pickle
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from neuropbr_core.data.pack import write as pack_writing
from neuropbr_core.data.pack.store import (
    VIEW,
    ImageId,
    PackedImages,
    Shard,
    packed_images,
    read_shard,
    shards,
)
from neuropbr_core.data.pack.write import prune_pack, write_pack
from neuropbr_core.errors import DataError
from neuropbr_core.recipe.sections import Data
from neuropbr_core.reporting import RecordingReporter, reporting_to

SIZE = 6


def image_id(number, role=VIEW):
    return ImageId(f"{number:032x}", role, SIZE)


def pixels(image):
    rng = np.random.default_rng(int(image.digest, 16))
    return rng.integers(0, 256, image.shape, dtype=np.uint8)


def wanted(*numbers, role=VIEW):
    return {image: partial(pixels, image) for image in (image_id(number, role) for number in numbers)}


def opened(folder, images):
    return PackedImages({(image.role, image.digest): image for image in images}, packed_images(folder))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / ".pack"


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(pack_writing, "SHARD_BYTES", 2 * image_id(0).stride)


def test_what_is_read_is_what_was_decoded(folder):
    asked = wanted(1, 2, 3) | wanted(3, role="roughness") | wanted(4, role="normal")
    report = write_pack(folder, asked)
    assert (report.packed, report.kept) == (5, 0)
    assert report.nbytes == sum(image.nbytes for image in asked) == (4 * 3 + 1) * SIZE**2
    images = opened(folder, asked)
    for image in asked:
        found = images.view(image.digest) if image.role == VIEW else images.map(image.role, image.digest)
        np.testing.assert_array_equal(found, pixels(image))
        assert not found.flags.writeable
        assert found.ctypes.data % 64 == 0


def test_images_begin_at_multiples_of_64_bytes():
    shard = Shard(Path("0.pack"), (image_id(0), image_id(1, "roughness"), image_id(2)))
    assert [slot.offset for slot in shard.slots().values()] == [0, 128, 192]


def test_only_what_is_missing_is_decoded(folder):
    write_pack(folder, wanted(1, 2))
    decoded = []
    more = {image: lambda image=image: decoded.append(image) or pixels(image) for image in wanted(1, 2, 3)}
    report = write_pack(folder, more)
    assert (report.packed, report.kept) == (1, 2)
    assert decoded == [image_id(3)]
    assert len(shards(folder)) == 2
    assert write_pack(folder, more).packed == 0
    assert len(shards(folder)) == 2


def test_another_size_or_role_is_another_image(folder):
    write_pack(folder, wanted(1))
    assert image_id(1)._replace(size=8) not in packed_images(folder)
    assert image_id(1, "albedo") not in packed_images(folder)


def test_shards_are_of_limited_size_and_keep_the_order(folder, small_shards):
    write_pack(folder, wanted(*range(5)), threads=3)
    assert sorted(len(shard.images) for shard in shards(folder)) == [1, 2, 2]
    assert [shard.images for shard in shards(folder) if shard.images[0] == image_id(2)] == [(image_id(2), image_id(3))]


@pytest.mark.usefixtures("small_shards")
def test_an_interruption_keeps_what_was_decoded(folder):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pack(folder, wanted(0, 1, 2) | {image_id(3): interrupt} | wanted(4), threads=1)
    assert set(packed_images(folder)) == set(wanted(0, 1, 2))
    assert all(not name.startswith(".") for name in files(folder))
    assert write_pack(folder, wanted(0, 1, 2, 3, 4)).packed == 2
    assert set(packed_images(folder)) == set(wanted(0, 1, 2, 3, 4))


def test_half_a_written_image_is_cut_off(folder, monkeypatch):
    add = pack_writing._OpenShard.add

    def add_half(shard, image, content):
        if image == image_id(2):
            shard._file.write(b"half")
            raise KeyboardInterrupt
        add(shard, image, content)

    monkeypatch.setattr(pack_writing._OpenShard, "add", add_half)
    with pytest.raises(KeyboardInterrupt):
        write_pack(folder, wanted(1, 2))
    np.testing.assert_array_equal(opened(folder, wanted(1)).view(image_id(1).digest), pixels(image_id(1)))


def test_what_a_killed_process_left_is_no_pack_and_is_cleared_away(folder):
    write_pack(folder, wanted(1))
    (folder / ".4711.pack").write_bytes(b"\0" * 1000)
    assert set(packed_images(folder)) == set(wanted(1))
    write_pack(folder, wanted(1, 2))
    assert ".4711.pack" not in files(folder)


def test_all_images_that_cannot_be_decoded_are_named_and_the_others_packed(folder):
    def fail(number):
        raise DataError(f"{number}.png: cannot be decoded")

    broken = {image_id(number): lambda number=number: fail(number) for number in (7, 8)}
    with pytest.raises(DataError, match=r"\A7\.png: cannot be decoded\n8\.png: cannot be decoded\Z"):
        write_pack(folder, wanted(1) | broken | wanted(2))
    assert set(packed_images(folder)) == set(wanted(1, 2))


def full_disk(*_arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["add", "finish"])
@pytest.mark.usefixtures("small_shards")
def test_a_disk_that_fills_up_is_an_error_and_leaves_no_half_shard(folder, monkeypatch, step):
    write_pack(folder, wanted(1))
    before = files(folder)
    monkeypatch.setattr(pack_writing._OpenShard, step, full_disk)
    with pytest.raises(DataError, match=r"the disk filled up while packing\. Make room, set data\.pack to a folder"):
        write_pack(folder, wanted(2, 3, 4))
    assert files(folder) == before


def test_too_small_a_disk_is_refused_before_anything_is_decoded(folder, monkeypatch):
    usage = pack_writing.shutil.disk_usage(folder.parent.parent)._replace(free=100)
    monkeypatch.setattr(pack_writing.shutil, "disk_usage", lambda _: usage)
    decoded = []
    with pytest.raises(DataError, match=r"the pack needs 0\.0 MB, the disk has 0\.0 MB left\. Make room"):
        write_pack(folder, {image_id(1): lambda: decoded.append(1)})
    assert (decoded, files(folder)) == ([], ["lock"])


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"the pack cannot be written .*Set data\.pack to another folder, or to `off`"):
        write_pack(tmp_path / "file" / "pack", wanted(1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[1:],
        lambda content: content[:-40],
        lambda content: content[:-1] + b"0",
        lambda content: b"",
        lambda content: content[:-16] + (1 << 40).to_bytes(8, "little") + content[-8:],
        lambda content: content.replace(b'"view"', b"[view]"),
    ],
)
def test_a_damaged_shard_is_passed_over_and_packed_again(folder, damage):
    write_pack(folder, wanted(1))
    (path,) = folder.glob("*.pack")
    path.write_bytes(damage(path.read_bytes()))
    assert read_shard(path) is None
    assert packed_images(folder) == {}
    assert write_pack(folder, wanted(1)).packed == 1
    np.testing.assert_array_equal(opened(folder, wanted(1)).view(image_id(1).digest), pixels(image_id(1)))


def test_two_packers_share_the_work(folder):
    folder.mkdir(parents=True)
    reports = []
    with (folder / "lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = threading.Event()
        told = RecordingReporter()
        told.line = lambda text: (told.lines.append(text), waiting.set())

        def pack():
            with reporting_to(told):
                reports.append(write_pack(folder, wanted(1, 2)))

        packer = threading.Thread(target=pack)
        packer.start()
        assert waiting.wait(10)
        assert not reports
    packer.join(10)
    assert told.lines == [f"Another process packs into {folder}; waiting for it"]
    assert reports[0].packed == 2


@pytest.mark.usefixtures("small_shards")
def test_pruning_removes_shards_that_nothing_uses(folder):
    write_pack(folder, wanted(1, 2, 3, 4))
    before = sum(path.stat().st_size for path in folder.glob("*.pack"))
    freed = prune_pack(folder, [image_id(2).digest])
    assert set(packed_images(folder)) == set(wanted(1, 2))
    assert freed == before - sum(path.stat().st_size for path in folder.glob("*.pack")) > 0
    assert prune_pack(folder / "none", []) == 0


def test_a_copy_in_another_process_maps_the_files_itself(folder):
    write_pack(folder, wanted(1))
    images = opened(folder, wanted(1))
    images.view(image_id(1).digest)
    sent = pickle.dumps(images)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).view(image_id(1).digest), pixels(image_id(1)))  # noqa: S301


def test_a_pack_that_was_removed_is_an_error(folder):
    write_pack(folder, wanted(1))
    images = opened(folder, wanted(1))
    next(folder.glob("*.pack")).unlink()
    with pytest.raises(DataError, match="was the pack removed"):
        images.view(image_id(1).digest)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (Data(root="d"), Path("d/.pack")),
        (Data(input_dir="d/input", output_dir="e"), Path("d/input/.pack")),
        (Data(root="d", pack="p/q"), Path("p/q")),
        (Data(root="d", pack="off"), None),
        (Data(), None),
    ],
)
def test_where_packs_lie(data, expected):
    assert data.pack_folder == expected
