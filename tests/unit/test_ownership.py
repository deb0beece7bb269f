"""Only files that the project wrote, and nobody changed since, are replaced without a word."""

from pathlib import Path

import pytest

from neuropbr_core.errors import DataError
from neuropbr_core.ownership import (
    RECORD,
    lies_in,
    refuse_foreign,
    remember_written,
    remembering,
    remove_earlier,
    wrote,
)

NAMES = ["albedo.png", "views/0.png"]


def write(folder: Path) -> None:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"ours")
    remember_written(folder, [folder / name for name in NAMES])


def test_what_we_wrote_is_ours(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "new", NAMES, overwrite=False)
    write(tmp_path)
    refuse_foreign(tmp_path, NAMES, overwrite=False)


def test_what_others_wrote_or_changed_is_not(tmp_path: Path) -> None:
    (tmp_path / "albedo.png").write_bytes(b"a photo")
    with pytest.raises(DataError, match=r"albedo\.png: there already, and not as neuropbr wrote it.*--overwrite"):
        refuse_foreign(tmp_path, NAMES, overwrite=False)
    refuse_foreign(tmp_path, NAMES, overwrite=True)
    write(tmp_path)
    (tmp_path / "views" / "0.png").write_bytes(b"edited")
    with pytest.raises(DataError, match=r"views/0\.png: there already"):
        refuse_foreign(tmp_path, NAMES, overwrite=False)


def test_a_folder_in_the_place_of_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "albedo.png").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        refuse_foreign(tmp_path, NAMES, overwrite=True)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": 3}', b"\xff"])
def test_a_damaged_note_makes_nothing_ours(content: bytes, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(DataError, match="there already"):
        refuse_foreign(tmp_path, NAMES, overwrite=False)


def test_what_an_earlier_call_wrote_is_removed_and_what_was_edited_stays(tmp_path: Path) -> None:
    for name in ("old.png", "edited.png", "foreign.png"):
        (tmp_path / name).write_bytes(b"one")
    remember_written(tmp_path, [tmp_path / "old.png", tmp_path / "edited.png"])
    (tmp_path / "edited.png").write_bytes(b"two")
    remove_earlier(tmp_path, ["old.png", "edited.png", "foreign.png", "missing.png"])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["edited.png", "foreign.png"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "maps").write_bytes(b"")
    with pytest.raises(DataError, match="is a file, and a folder belongs there"):
        refuse_foreign(tmp_path / "maps", ["albedo.png"], overwrite=True)


def test_one_place_under_two_names_is_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Photos" / "oak").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "Photos")
    assert lies_in(tmp_path / "link" / "new", tmp_path / "Photos")
    assert lies_in(tmp_path / "Photos" / "oak", tmp_path / "link")
    assert not lies_in(tmp_path / "photos" / "new", tmp_path / "Photos")
    assert not lies_in(tmp_path / "Photos2", tmp_path / "Photos")
    # As where the file system ignores case: both names lead to one folder.
    monkeypatch.setattr(Path, "samefile", lambda self, other: str(self).casefold() == str(other).casefold())
    assert lies_in(tmp_path / "photos" / "new", tmp_path / "Photos")


def test_what_an_interrupted_call_wrote_is_ours(tmp_path: Path) -> None:
    def call() -> None:
        with remembering(tmp_path, [tmp_path / name for name in NAMES]):
            (tmp_path / "albedo.png").write_bytes(b"ours")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call()
    refuse_foreign(tmp_path, NAMES, overwrite=False)
    assert wrote(tmp_path, ["albedo.png"])
    assert not wrote(tmp_path, ["views/0.png"])


def test_nothing_is_noted_where_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), remembering(tmp_path / "new", [tmp_path / "new" / "albedo.png"]):
        raise OSError("full")
    assert not (tmp_path / "new").exists()
