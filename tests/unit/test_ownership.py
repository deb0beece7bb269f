"""Only files that the project wrote, and nobody changed since, are replaced without a word."""

from pathlib import Path

import pytest

from neuropbr_core.errors import DataError
from neuropbr_core.ownership import RECORD, refuse_foreign, remember_written

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
