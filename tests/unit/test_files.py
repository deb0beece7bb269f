"""Files that are written whole or not at all."""

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from neuropbr_core.files import replacing, write_bytes, write_json, write_text


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


def killed_writer(path: Path, *, folder: bool) -> subprocess.CompletedProcess[bytes]:
    """Another process that writes `path` and is killed in the middle."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from neuropbr_core.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as aside:\n"
        "    if sys.argv[2] == 'True':\n"
        "        aside.mkdir()\n"
        "        aside = aside / 'part'\n"
        "    aside.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    return subprocess.run([sys.executable, "-c", script, str(path), str(folder)], check=False)


@pytest.mark.parametrize("folder", [False, True])
def test_the_next_writer_clears_what_a_killed_one_left(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "maps"
    assert killed_writer(path, folder=folder).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".maps.writing-")
    write_bytes(path, b"whole")
    assert [each.name for each in tmp_path.iterdir()] == ["maps"]


def test_a_writer_that_still_works_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "maps"
    others = tmp_path / f".maps.writing-{socket.gethostname()}-{os.getppid()}"
    others.write_bytes(b"half")
    write_bytes(path, b"whole")
    assert others.read_bytes() == b"half"


def test_another_hosts_writer_is_given_a_day(tmp_path: Path) -> None:
    path = tmp_path / "maps"
    fresh = tmp_path / ".maps.writing-elsewhere-12"
    old = tmp_path / ".maps.writing-elsewhere-13"
    for left in (fresh, old):
        left.write_bytes(b"half")
    os.utime(old, (0, 0))
    write_bytes(path, b"whole")
    assert fresh.exists()
    assert not old.exists()


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "oak"
    for content in ("before", "after"):
        with replacing(path, durable=True) as aside:
            aside.mkdir()
            (aside / content).write_text(content)
    assert [inner.name for inner in path.iterdir()] == ["after"]
    assert [each.name for each in tmp_path.iterdir()] == ["oak"]


def test_a_folder_that_was_moved_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "oak"
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    aside = tmp_path / f".oak.replaced-{socket.gethostname()}-{int(process.stdout)}"
    aside.mkdir()
    (aside / "albedo.png").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), replacing(path):
        raise KeyboardInterrupt
    assert (path / "albedo.png").read_bytes() == b"before"
    assert not aside.exists()


def test_an_exception_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "oak"
    path.mkdir()
    (path / "albedo.png").write_bytes(b"before")

    def fail() -> None:
        with replacing(path) as aside:
            aside.mkdir()
            (aside / "albedo.png").write_bytes(b"after")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (path / "albedo.png").read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["oak"]


def test_a_failure_between_the_two_renames_puts_the_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "oak"
    path.mkdir()
    (path / "albedo.png").write_bytes(b"before")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if target == path and "writing" in self.name:
            raise KeyboardInterrupt
        return rename(self, target)

    def write() -> None:
        with replacing(path) as aside:
            aside.mkdir()

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write()
    assert (path / "albedo.png").read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["oak"]


def test_json_is_written_for_people_and_refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"größe": 1.5, "views": (1, 2)})
    assert path.read_text(encoding="utf-8") == '{\n  "größe": 1.5,\n  "views": [\n    1,\n    2\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert "1.5" in path.read_text(encoding="utf-8")


def test_devices_and_pipes_are_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match="which is never replaced"):
            write_text(place, "text")
    assert Path("/dev/null").is_char_device()


def test_an_error_of_a_library_without_a_number_keeps_its_text_and_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    with pytest.raises(OSError, match=r"^encoder error -2 when writing image file") as caught, replacing(path):
        raise OSError("encoder error -2 when writing image file")
    assert caught.value.__notes__ == [f"this happened while {path} was written"]


def test_what_was_noted_on_an_error_stays(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    error.add_note("observer/grid of acme 1.0")
    path = tmp_path / "grid.png"
    with pytest.raises(OSError, match=r"No space left on device: '.*/grid\.png'") as caught, replacing(path):
        raise error
    assert caught.value.__notes__ == ["observer/grid of acme 1.0"]
