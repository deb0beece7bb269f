"""Which exported files are opened: whole ones, and of strangers those that can only compute."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import Tensor

from neuropbr_core.contracts import Exporter, Maps
from neuropbr_core.errors import ExportError
from neuropbr_core.exporting import Verification, compare, open_export, write_record
from neuropbr_core.exporting import record as records
from neuropbr_core.exporting.record import Record
from neuropbr_core.exporting.trust import content_digest, is_own_export, remember_export
from neuropbr_core.user_data import data_home


@dataclass
class Careless(Exporter):
    """Knows nothing about strangers' files."""

    suffix = ".bin"
    loaded: int = 0

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        self.loaded += 1
        return dict

    def read_metadata(self, path: Path) -> dict[str, str]:
        self.loaded += 1
        return {}


class Careful(Careless):
    def load_untrusted(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        return dict


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEUROPBR_DATA_HOME", str(tmp_path / "home"))
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    write_record(path, Record("x:y", {}, {}), Verification("fp32", compare({}, {}), "the model", "a test"))
    return path


def exporter(monkeypatch: pytest.MonkeyPatch, made: Exporter) -> None:
    monkeypatch.setattr(records, "_create", lambda *_: made)


def test_a_careless_exporter_opens_no_file_of_a_stranger(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    careless = Careless()
    exporter(monkeypatch, careless)
    with pytest.raises(ExportError, match=r"model\.bin: Careless cannot tell .*--trust"):
        open_export(file)
    assert not careless.loaded
    assert callable(open_export(file, trust=True).program)
    remember_export(content_digest(file), file.name)
    assert callable(open_export(file).program)


def test_a_careful_exporter_opens_it_with_care(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    careful = Careful()
    exporter(monkeypatch, careful)
    opened = open_export(file)
    assert not opened.trusted
    assert callable(opened.program)
    assert careful.loaded == 1  # the metadata


@pytest.mark.parametrize("trust", [False, True])
def test_changed_bytes_are_refused(trust: bool, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter(monkeypatch, Careful())
    file.write_bytes(b"weighty")
    with pytest.raises(ExportError, match=r"model\.bin: its bytes are not those that were exported .*SHA-256"):
        open_export(file, trust=trust)


def test_a_pipe_is_no_export(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "model.bin")
    with pytest.raises(ExportError, match=r"model\.bin: cannot be read \(is a named pipe"):
        open_export(tmp_path / "model.bin")


def test_folders_have_a_digest_of_names_and_contents(tmp_path: Path) -> None:
    digests = set()
    for name, content in (("a", b"1"), ("a", b"2"), ("b", b"1")):
        folder = tmp_path / f"{name}{content.decode()}"
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / name).write_bytes(content)
        digests.add(content_digest(folder))
    assert len(digests) == 3


def test_a_list_that_is_damaged_or_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEUROPBR_DATA_HOME", str(tmp_path / "home"))
    assert not is_own_export("0" * 64)
    data_home().mkdir()
    (data_home() / "exports.txt").write_bytes(b"\xff\x00")
    assert not is_own_export("0" * 64)
    monkeypatch.setenv("NEUROPBR_DATA_HOME", str(tmp_path / "home" / "exports.txt"))
    remember_export("0" * 64, "x")
    assert "could not be written" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are always text there")
def test_the_digest_of_a_folder_takes_names_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = content_digest(tmp_path)
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"1")
    assert content_digest(tmp_path) != before
