"""Files that are written whole or not at all."""

import errno
import resource

import pytest

from neuropbr_core.files import write_bytes


@pytest.fixture
def no_room():
    """No file may have more than a hundred bytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_without_room_keeps_its_content_and_is_named(tmp_path, no_room):
    path = tmp_path / "cameras.json"
    write_bytes(path, b"before")
    with pytest.raises(OSError, match=r"File too large: '.*/cameras\.json'$") as caught:
        write_bytes(path, bytes(1000))
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"before"
    assert [left.name for left in tmp_path.iterdir()] == ["cameras.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OSError, match=r"/taken'$"):
        write_bytes(tmp_path / "taken/deeper.json", b"{}")
