"""The lock of a folder: one process holds it, others learn which, and a stale one is replaced. Real processes race."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from neuropbr_core import lock
from neuropbr_core.errors import RunError, RunStopped
from neuropbr_core.lock import LOCK, PATIENCE, FolderLock, LockOwner, read_lock
from neuropbr_core.reporting import RecordingReporter, reporting_to


def write_lock(folder: Path, owner: LockOwner, silence: float = 0.0) -> None:
    """A lock as another process left it, `silence` seconds ago."""
    folder.mkdir(exist_ok=True)
    (folder / LOCK).write_text(json.dumps(asdict(owner)))
    past = time.time() - silence
    os.utime(folder / LOCK, (past, past))


def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_is_made_for_the_lock_and_removed_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "new"
    with FolderLock(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert not folder.exists()
    with FolderLock(folder):
        (folder / "recipe.yaml").write_text("")
    assert [path.name for path in folder.iterdir()] == ["recipe.yaml"]


def test_an_empty_folder_stays_when_asked(tmp_path: Path) -> None:
    with FolderLock(tmp_path, keep_folder=True):
        pass
    assert tmp_path.is_dir()


def test_a_second_writer_is_told_host_process_and_age(tmp_path: Path) -> None:
    write_lock(tmp_path, replace(LockOwner.here(), host="lab-7", started=time.time() - 3600 * 5))
    with pytest.raises(
        RunError, match=rf"process {os.getpid()} on lab-7 \(it started 5 h 0 min ago, its last sign of life 0"
    ):
        FolderLock(tmp_path).acquire()
    assert read_lock(tmp_path) is not None


def test_a_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FolderLock(tmp_path):
        raise ZeroDivisionError
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize(
    ("owner", "silence", "reason"),
    [
        (replace(LockOwner.here(), pid=gone()), 0.0, "that process is gone"),
        (replace(LockOwner.here(), process_start="1"), 0.0, "that process is gone"),  # its id is another's now
        (replace(LockOwner.here(), machine="elsewhere"), PATIENCE + 60, r"has given no sign of life for 4 min \d+ s"),
    ],
)
def test_a_stale_lock_is_taken_over_with_a_warning(
    tmp_path: Path, owner: LockOwner, silence: float, reason: str
) -> None:
    write_lock(tmp_path, owner, silence)
    with reporting_to(RecordingReporter()) as told, FolderLock(tmp_path):
        held = read_lock(tmp_path)
        assert held is not None
        assert held.owner is not None
        assert held.owner.pid == os.getpid()
    (line,) = told.lines
    assert line.startswith(f"warning: {tmp_path}: takes over the lock of process {owner.pid} on ")
    assert re.search(rf"{reason}$", line)
    assert list(tmp_path.parent.glob(f"{tmp_path.name}/*")) == []


@pytest.mark.parametrize(
    ("machine", "silence"),
    [("elsewhere", PATIENCE - 60), (None, PATIENCE * 100)],  # the second is this process, suspended for hours
)
def test_a_lock_whose_process_may_live_is_respected(tmp_path: Path, machine: str | None, silence: float) -> None:
    owner = LockOwner.here()
    write_lock(tmp_path, owner if machine is None else replace(owner, machine=machine), silence)
    with pytest.raises(RunError, match="writes there; wait for it or stop it"):
        FolderLock(tmp_path).acquire()


def test_a_damaged_lock_is_respected_until_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LOCK).write_text("{")
    monkeypatch.setattr(lock, "_WRITING", 0.2)
    with pytest.raises(RunError, match="a process that does not say who it is"):
        FolderLock(tmp_path).acquire()
    past = time.time() - PATIENCE - 1
    os.utime(tmp_path / LOCK, (past, past))
    with reporting_to(RecordingReporter()), FolderLock(tmp_path):
        pass


def test_a_takeover_that_was_killed_does_not_block_the_next(tmp_path: Path) -> None:
    write_lock(tmp_path, replace(LockOwner.here(), pid=gone()))
    marker = tmp_path / f"{LOCK}.takeover"
    marker.touch()
    os.utime(marker, (0, 0))
    with reporting_to(RecordingReporter()), FolderLock(tmp_path):
        assert not marker.exists()


def test_who_lost_the_lock_writes_no_more_and_leaves_the_other_lock(tmp_path: Path) -> None:
    lost = FolderLock(tmp_path)
    lost.acquire()
    lost.require()
    other = replace(LockOwner.here(), host="lab-7")
    write_lock(tmp_path, other)
    with pytest.raises(RunStopped, match=r"the lock of this folder is now that of process \d+ on lab-7"):
        lost.require()
    lost.release()
    held = read_lock(tmp_path)
    assert held is not None
    assert held.owner == other


def test_the_heart_beats_while_the_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with FolderLock(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        for _ in range(500):
            held = read_lock(tmp_path)
            assert held is not None
            if held.silence < 60:
                return
            time.sleep(0.01)
    raise AssertionError("no heartbeat came")


RACER = """
import sys, time
from pathlib import Path
from neuropbr_core.errors import RunError
from neuropbr_core.lock import FolderLock

folder, start, finish = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
print("ready", flush=True)
while not start.exists():
    time.sleep(0.001)
try:
    with FolderLock(folder):
        print("held", flush=True)
        while not finish.exists():
            time.sleep(0.01)
except RunError as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("stale", [False, True])
def test_of_eight_processes_one_holds_the_lock(tmp_path: Path, stale: bool) -> None:
    folder = tmp_path / "run"
    if stale:
        write_lock(folder, replace(LockOwner.here(), pid=gone()))
    start, finish = tmp_path / "start", tmp_path / "finish"
    command = [sys.executable, "-c", RACER, str(folder), str(start), str(finish)]
    with ExitStack() as stack:
        racers = []
        for _ in range(8):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            racers.append(stack.enter_context(process))
        lines = [read_line(racer) for racer in racers]
        assert lines == ["ready"] * 8
        start.touch()
        answers = [read_line(racer) for racer in racers]
        finish.touch()
        errors = [racer.communicate(timeout=60)[1] for racer in racers]
    (holder,) = (racer for racer, answer in zip(racers, answers, strict=True) if answer == "held")
    assert sum(f"process {holder.pid} on " in answer for answer in answers) == 7, answers
    assert sum("takes over the lock" in error for error in errors) == stale
    assert not folder.exists()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


HOLDER = """
import sys, time
from pathlib import Path
from neuropbr_core.lock import FolderLock

with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    """Also while its parent has not asked for its exit code, so that the process id is still there."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert read_line(process) == "held"
        with pytest.raises(RunError, match=f"process {process.pid} on "):
            FolderLock(tmp_path).acquire()
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        with reporting_to(RecordingReporter()) as told, FolderLock(tmp_path):
            pass
    assert "that process is gone" in told.lines[0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b'{"token": "x", "host": "h", "machine": "m", "pid": 1, "process_start": "", "started": "yesterday"}',
    ],
    ids=["empty", "no text", "null", "wrong type"],
)
def test_a_lock_that_cannot_be_read_names_no_owner(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK).write_bytes(content)
    held = read_lock(tmp_path)
    assert held is not None
    assert held.owner is None
    assert "a process that does not say who it is" in str(held)
