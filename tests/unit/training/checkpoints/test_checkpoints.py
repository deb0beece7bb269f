"""Checkpoints are whole or absent, damage is found, pointers are swapped."""

from pathlib import Path

import pytest

from neuropbr_core.errors import CheckpointError
from neuropbr_core.training.checkpoints import store as checkpoints
from neuropbr_core.training.checkpoints.store import BEST, LATEST, CheckpointStore, find_checkpoint, verify


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints")
    for number in (1, 2, 3):
        name = f"epoch_{number:04d}"
        store.save(name, lambda folder, number=number: _write(folder, number))
        store.point(LATEST, name)
    store.point(BEST, "epoch_0002")
    return store


def _write(folder: Path, number: int) -> None:
    (folder / "weights").write_bytes(bytes([number]) * 1000)


def test_what_was_saved_is_found_by_pointer_and_by_name(store: CheckpointStore) -> None:
    assert store.open("best").name == "epoch_0002"
    assert store.open("latest").name == "epoch_0003"
    assert store.open("epoch_0001").joinpath("weights").read_bytes() == b"\1" * 1000
    assert not list(store.folder.glob(".*"))


def test_an_unknown_name_lists_what_there_is(store: CheckpointStore) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint 'epoch_0009'; there are: best, latest, epoch_0001"):
        store.open("epoch_0009")


def test_a_truncated_file_is_found_and_the_one_before_is_used(store: CheckpointStore) -> None:
    file = store.folder / "epoch_0003" / "weights"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="checksum"):
        store.open("latest")
    path, problems = store.newest_sound()
    assert path.name == "epoch_0002"
    assert len(problems) == 1
    assert "epoch_0003" in problems[0]


def test_a_flipped_bit_is_found(store: CheckpointStore) -> None:
    file = store.folder / "epoch_0001" / "weights"
    file.write_bytes(b"\0" + file.read_bytes()[1:])
    with pytest.raises(CheckpointError, match="is damaged"):
        verify(file.parent)


def test_a_full_disk_leaves_earlier_checkpoints_and_no_rest(store: CheckpointStore) -> None:
    def full(folder: Path) -> None:
        (folder / "weights").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"No space left.*earlier checkpoints are untouched"):
        store.save("epoch_0004", full)
    assert store.names() == ["epoch_0001", "epoch_0002", "epoch_0003"]
    assert not list(store.folder.glob(".*"))
    with pytest.raises(CheckpointError):
        store.save("epoch_0003", full)
    assert store.open("epoch_0003").joinpath("weights").read_bytes() == b"\3" * 1000


def test_a_checkpoint_is_replaced_whole_and_leaves_no_rest(store: CheckpointStore) -> None:
    store.save("epoch_0002", lambda folder: _write(folder, 9))
    assert store.open("best").joinpath("weights").read_bytes() == b"\x09" * 1000
    assert store.names() == ["epoch_0001", "epoch_0002", "epoch_0003"]
    assert not list(store.folder.glob(".*"))


def test_keep_only_removes_the_rest(store: CheckpointStore) -> None:
    store.keep_only({"epoch_0002"})
    assert store.names() == ["epoch_0002"]


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        CheckpointStore(tmp_path).newest_sound()


@pytest.mark.parametrize("content", ["", "[]", '{"sha256": ["weights"]}', '{"files": {}}'])
def test_a_damaged_list_of_files_is_a_damaged_checkpoint(store: CheckpointStore, content: str) -> None:
    (store.folder / "epoch_0003" / "manifest.json").write_text(content)
    path, problems = store.newest_sound()
    assert path.name == "epoch_0002"
    assert "epoch_0003/manifest.json: " in problems[0]
    assert problems[0].endswith("; the checkpoint is not complete")


def test_a_deleted_manifest_is_said(store: CheckpointStore) -> None:
    (store.folder / "epoch_0003" / "manifest.json").unlink()
    path, problems = store.newest_sound()
    assert path.name == "epoch_0002"
    assert "epoch_0003: has no manifest.json" in problems[0]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"../../elsewhere", b"epoch_0002\nx", b"x" * 10_000])
def test_a_damaged_pointer_points_nowhere(store: CheckpointStore, content: bytes) -> None:
    (store.folder / LATEST).write_bytes(content)
    assert store.pointed(LATEST) is None
    assert not store.is_complete(1)


def test_a_checkpoint_named_by_its_folder_is_verified_too(store: CheckpointStore) -> None:
    assert find_checkpoint(store.folder / "epoch_0003") == store.folder / "epoch_0003"
    (store.folder / "epoch_0003" / "weights").write_bytes(b"\3" * 999 + b"\2")
    with pytest.raises(CheckpointError, match="is damaged"):
        find_checkpoint(store.folder / "epoch_0003")


def test_the_newest_is_the_newest_by_number(store: CheckpointStore) -> None:
    names = ["epoch_9999", "epoch_9999_step_000500", "epoch_9999_step_1000000", "epoch_10000"]
    for name in reversed(names):
        store.save(name, lambda folder: _write(folder, 7))
    assert store.names()[3:] == names
    assert store.newest_sound()[0].name == "epoch_10000"


def test_a_pointer_that_cannot_be_written_is_as_it_was(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_text", full)
    with pytest.raises(CheckpointError, match=r"best: could not be written \(.*No space left.*--resume goes on"):
        store.point(BEST, "epoch_0003")
    assert store.pointed(BEST) == "epoch_0002"
