"""Pipes and devices in the places of files: nothing waits for their writers, and nothing reads them to their end."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from neuropbr_core.data.decoding import is_cut_off
from neuropbr_core.data.pack.digest import fingerprint_files
from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.exporting.trust import content_digest
from neuropbr_core.lock import LOCK, FolderLock
from neuropbr_core.model.weights import weights_digest
from neuropbr_core.outputs.manifest import foreign_file, is_package
from neuropbr_core.reading import open_bytes, read_bytes
from neuropbr_core.recipe import load_recipe
from neuropbr_core.scaffold.project import read_project


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """End a test that waits for a pipe, which would otherwise never end."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("a.bin", lambda folder: open_bytes(folder / "a.bin")),
    ("a.bin", lambda folder: read_bytes(folder / "a.bin")),
    ("deep/a.bin", content_digest),
    ("model.safetensors", weights_digest),
    ("0.png", lambda folder: fingerprint_files([folder / "0.png"])),
    ("0.png", lambda folder: is_cut_off(folder / "0.png")),
    ("recipe.yaml", lambda folder: load_recipe(folder / "recipe.yaml")),
    (LOCK, lambda folder: FolderLock(folder).acquire()),
    ("pyproject.toml", read_project),
]


@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_pipe_is_refused(name: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises((OSError, NeuroPBRError)) as caught:
        read(tmp_path)
    assert not isinstance(caught.value, TimeoutError)


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(3):
        with pytest.raises(OSError, match="is a folder, and a file is needed"):
            open_bytes(tmp_path)
    after = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    assert after == before


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b"\xff",
        b'{"target": 1, "material": 2, "files": 3}',
        b'{"target": 1, "material": 2, "files": [{"file": NaN}]}',
        b"null",
    ],
)
def test_a_manifest_of_something_else_is_no_package(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    assert not is_package(tmp_path)


def test_pipes_and_links_to_nothing_were_added_to_a_package(tmp_path: Path) -> None:
    files = '[{"file": [1], "sha256": {}}, 4, {"file": "pipe", "sha256": null}]'
    (tmp_path / "manifest.json").write_text(f'{{"target": 1, "material": 2, "files": {files}}}')
    assert is_package(tmp_path)
    assert foreign_file(tmp_path) is None
    os.mkfifo(tmp_path / "pipe")
    assert foreign_file(tmp_path) == "pipe"
    (tmp_path / "pipe").unlink()
    (tmp_path / "link").symlink_to("/nonexistent/x")
    assert foreign_file(tmp_path) == "link"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nothing can be made is needed")
def test_a_folder_in_which_no_lock_can_be_made_is_not_asked_for_ever() -> None:
    with pytest.raises(OSError, match="no file can be made in it"):
        FolderLock(Path("/proc/self")).acquire()
