"""The port, the temporary folder, and the end of the program."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import small_run
from click.testing import CliRunner

from neuropbr_core.app import serving
from neuropbr_core.app.guard import is_loopback
from neuropbr_core.app.serving import open_port, remove_abandoned
from neuropbr_core.cli import root
from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.reporting import RecordingReporter, reporting_to


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_addresses_of_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])  # noqa: S104
def test_addresses_that_others_reach(host: str) -> None:
    assert not is_loopback(host)


def test_a_taken_port_is_passed_over_unless_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_port("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NeuroPBRError, match=f"port {port} is taken, perhaps by another neuropbr app; leave --port"):
            open_port("127.0.0.1", port)
        monkeypatch.setattr(serving, "USUAL_PORT", port)
        with open_port("127.0.0.1", None) as opened:
            assert port < opened.getsockname()[1] < port + 20
        monkeypatch.setattr(serving, "_PORTS", 1)
        with pytest.raises(NeuroPBRError, match=f"ports {port} to {port} are taken"):
            open_port("127.0.0.1", None)


def test_addresses_that_cannot_be_opened() -> None:
    with pytest.raises(NeuroPBRError, match=r"--host no\.such\.host\.invalid: is no address of this machine"):
        open_port("no.such.host.invalid", 0)
    with pytest.raises(NeuroPBRError, match=r"port 0 of 192\.0\.2\.1 cannot be opened: .*choose another --port"):
        open_port("192.0.2.1", 0)


def test_folders_of_killed_apps_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    abandoned = f"neuropbr-app-{host}-{ended.pid}-abc"
    kept = {
        f"neuropbr-app-{host}-{os.getppid()}-abc",
        f"neuropbr-app-container-{ended.pid}-abc",  # processes of another host cannot be asked
        "neuropbr-app-x-abc",
        "other",
    }
    for name in (abandoned, *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.png").touch()
    link = tmp_path / f"neuropbr-app-{host}-{ended.pid}-link"
    link.symlink_to(tmp_path / "other")
    with reporting_to(RecordingReporter()) as told:
        remove_abandoned()
    assert [line.partition(",")[0] for line in told.lines] == [f"removed {tmp_path}/{abandoned}"]
    assert {path.name for path in tmp_path.iterdir()} == {*kept, link.name}
    assert (tmp_path / "other" / "photo.png").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7"])  # noqa: S104
def test_other_machines_are_let_in_only_on_request(host: str) -> None:
    answer = CliRunner().invoke(root, ["app", "--host", host])
    assert answer.exit_code == 2
    assert "asks for no password; add --allow-network" in answer.output


def test_materials_are_kept_for_a_minute_at_least() -> None:
    answer = CliRunner().invoke(root, ["app", "--keep", "0.5"])
    assert answer.exit_code == 2
    assert "0.5 is not in the range x>=1" in answer.output


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuropbr_core.cli.app.find_spec", lambda name: None)
    answer = CliRunner().invoke(root, ["app"])
    assert isinstance(answer.exception, NeuroPBRError)
    assert str(answer.exception) == "starlette and uvicorn are not installed; pip install 'neuropbr[app]'"


def test_no_other_room_needs_the_extra() -> None:
    room = Path(serving.__file__).parent
    for path in room.parent.rglob("*.py"):
        needed = re.findall(r"^\s*(?:from|import) (starlette|uvicorn)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not needed or path.is_relative_to(room), path


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_the_program_with_a_page_open(tmp_path: Path, number: int, code: int) -> None:
    run = small_run.save_run(tmp_path / "run", small_run.small_recipe(*small_run.PLAIN))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    program = "from neuropbr_core.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "app", "--run", str(run), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    with process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
            assert address is not None
            port = int(address[1])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/")
            assert b"Photos to material" in connection.getresponse().read()
            assert [path.name.startswith("neuropbr-app-") for path in scratch.iterdir()] == [True]
            # A browser that stops in the middle of a photo, and stays connected.
            connection.request("POST", "/jobs")
            job = json.loads(connection.getresponse().read())["id"]
            lines = [f"POST /jobs/{job}/photos?name=a.png HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Length: 1000"]
            half = "\r\n".join([*lines, "", "the first half"])
            with socket.create_connection(("127.0.0.1", port)) as stuck:
                stuck.sendall(half.encode())
                process.send_signal(number)
                _, errors = process.communicate(timeout=60)
            connection.close()
        finally:
            process.kill()
    assert (process.returncode, errors) == (code, "")
    assert list(scratch.iterdir()) == []
