"""One writer a folder: a lock file in the folder names the process that writes there and shows that it is alive.

The file is created with `O_EXCL`, so that of several processes exactly one succeeds, on local and network file systems
alike. Its time of change is the heartbeat. A lock is stale when its process is gone (which its id and start time show
on the same machine), or when it has had no heartbeat for a while (which any machine can see). A stale lock is replaced.
"""

import errno
import json
import os
import platform
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

import msgspec

from neuropbr_core.errors import RunError, RunStopped
from neuropbr_core.files import process_is_alive
from neuropbr_core.reading import read_bytes
from neuropbr_core.reporting import duration, reporter

LOCK = ".lock"
"""Name of the lock; files whose names begin with it belong to it."""

BEAT = 10.0
"""Seconds between two heartbeats."""

PATIENCE = 180.0
"""Seconds without a heartbeat after which a process elsewhere counts as gone. Much longer than `BEAT`: clocks of two
machines differ, and a busy network file system may hold a write back for a minute."""

_WRITING = 2.0  # seconds in which a lock that was created has its content, too
_MEETINGS = 100  # times in a row that a lock may be there when it is made, and gone when it is read
_TAKEOVER_PATIENCE = 10.0  # seconds; a takeover reads and replaces one small file


@dataclass(frozen=True)
class LockOwner:
    """The process that holds a lock.

    Attributes:
        token: Unique name of this lock.
        host: The machine's name, for people.
        machine: Names the running system in which the process id counts: one boot, one container.
        pid: The process id.
        process_start: When the process started, as the system counts it: tells it from a later one with the same
            id. Empty where the system does not say.
        started: When the lock was taken, in seconds since 1970.
    """

    token: str
    host: str
    machine: str
    pid: int
    process_start: str
    started: float

    @classmethod
    def here(cls) -> "LockOwner":
        """This process."""
        pid = os.getpid()
        start = _process_start(pid) or ""
        return cls(uuid.uuid4().hex, platform.node(), _machine(), pid, start, time.time())

    def is_alive(self) -> bool:
        """Whether the process is still there; asked on its own machine alone."""
        if not process_is_alive(self.pid):
            return False
        # An id is used again after a while, so the process that has it need not be the one that took the lock.
        start = _process_start(self.pid)
        return start is None or start == self.process_start


@dataclass(frozen=True)
class HeldLock:
    """A lock that is there.

    Attributes:
        owner: Who holds it; None while the file is being written, or when it is damaged.
        silence: Seconds since its last heartbeat.
    """

    owner: LockOwner | None
    silence: float

    def staleness(self) -> str | None:
        """Why nobody holds the lock any more; None when somebody does, or may do."""
        owner = self.owner
        if owner is not None and owner.machine == _machine():
            # The process id counts here, so the answer does not depend on clocks; a process that is suspended
            # holds its lock for as long as it exists.
            if owner.is_alive():
                return None
            return "that process is gone"
        if self.silence > PATIENCE:
            return f"it has given no sign of life for {duration(self.silence)}"
        return None

    def __str__(self) -> str:
        """Who holds it and since when, for messages."""
        if self.owner is None:
            return f"a process that does not say who it is (the lock is {duration(self.silence)} old)"
        age = duration(time.time() - self.owner.started)
        sign = f"its last sign of life {duration(self.silence)} ago"
        return f"process {self.owner.pid} on {self.owner.host} (it started {age} ago, {sign})"


class FolderLock:
    """Lets one process alone write a folder; as a context manager, for as long as the context lasts.

    Args:
        folder: The folder; made when missing, and removed again if nothing but the lock was ever in it.
        task: What the process that holds the lock does, and what another one can do about it, for its error.
        keep_folder: Whether the folder stays also when nothing but the lock was ever in it.
    """

    def __init__(
        self,
        folder: Path,
        task: str = "writes there; wait for it or stop it",
        *,
        keep_folder: bool = False,
    ) -> None:
        self._keep_folder = keep_folder
        self._folder = folder
        self._task = task
        self._file = folder / LOCK
        self._owner = LockOwner.here()
        self._released = Event()
        self._heart: Thread | None = None

    def acquire(self) -> None:
        """Take the lock, and keep it alive until it is released.

        Raises:
            OSError: The lock cannot be made.
            RunError: Another process writes the folder; the message names its host, its id and its age.
        """
        vanished = 0
        while not self._create():
            held = read_lock(self._folder)
            if held is None:  # released between the two calls
                vanished += 1
                # No two processes meet so often; there are folders in which nothing can be made, such as `/proc/self`.
                if vanished > _MEETINGS:
                    raise OSError(errno.ENOENT, "no file can be made in it", str(self._folder))
                time.sleep(0.01)
                continue
            if held.owner is None and held.silence < _WRITING:  # created a moment ago, and not written yet
                time.sleep(0.05)
                continue
            reason = held.staleness()
            if reason is None:
                raise RunError(f"{self._folder}: {held} {self._task}")
            if self._take_over(held):
                reporter().warning(f"{self._folder}: takes over the lock of {held}: {reason}")
                break

        def beat() -> None:
            while not self._released.wait(BEAT):
                with suppress(OSError):  # a network that is away for a moment
                    # Asked each time: the lock may have been taken over while this process was suspended.
                    if self._is_ours():
                        os.utime(self._file)

        # A daemon, so that a process that ends without releasing the lock is not kept alive by its heartbeat.
        self._heart = Thread(target=beat, name="folder-lock", daemon=True)
        self._heart.start()

    def release(self) -> None:
        """Give the lock back; does nothing where it was not taken, or was taken over."""
        if self._heart is None:
            return
        self._released.set()
        self._heart.join()  # so that no heartbeat touches a lock that another process takes next
        if self._is_ours():
            # Only one's own: another process may have taken the lock over.
            self._file.unlink(missing_ok=True)
        if self._keep_folder:
            return
        with suppress(OSError):
            self._folder.rmdir()  # which fails, as it should, when there is anything in the folder

    def __enter__(self) -> Self:
        """Take the lock."""
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lock, whatever happened."""
        self.release()

    def require(self) -> None:
        """Check that the lock is still this process's; to be called before something is written.

        A process that was suspended for longer than `PATIENCE` may have lost its folder to another machine.

        Raises:
            RunStopped: Another process has taken over the folder.
        """
        if not self._is_ours():
            held = read_lock(self._folder)
            by = "is gone"
            if held is not None:
                by = f"is now that of {held}"
            raise RunStopped(f"{self._folder}: the lock of this folder {by}; nothing more is written from here")

    def _create(self) -> bool:
        """Create the lock file; False when there is one."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        except FileNotFoundError:  # another process released its lock and removed the folder between the two calls
            return False
        # Another process may look between the two lines and finds an empty file, which counts as held.
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self._owner), file)
        return True

    def _take_over(self, stale: HeldLock) -> bool:
        """Replace a stale lock; False when another process was faster.

        Several processes may see the same stale lock. The one that creates the file `.lock.takeover` replaces it, but
        only after it has looked again: the lock may have been replaced since it was read.
        """
        marker = self._folder / f"{LOCK}.takeover"
        try:
            os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except OSError:
            # Another process is at it, or was killed in the middle of it; a marker of the second kind is removed.
            with suppress(OSError):  # it was removed meanwhile
                if time.time() - marker.stat().st_mtime > _TAKEOVER_PATIENCE:
                    marker.unlink()
            time.sleep(0.05)
            return False
        try:
            now = read_lock(self._folder)
            if now is None or now.owner != stale.owner or now.staleness() is None:
                return False
            # Moved into place, so that nobody sees the folder without a lock or with half of one.
            aside = self._folder / f"{LOCK}.{self._owner.token}"
            aside.write_text(json.dumps(asdict(self._owner)), encoding="utf-8")
            aside.replace(self._file)
            return True
        finally:
            marker.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        held = read_lock(self._folder)
        return held is not None and held.owner == self._owner


def read_lock(folder: Path) -> HeldLock | None:
    """The lock of a folder; None when nobody has taken it."""
    file = folder / LOCK
    try:
        silence = time.time() - file.stat().st_mtime
        content = read_bytes(file)
    except FileNotFoundError:
        return None
    try:
        return HeldLock(msgspec.json.decode(content, type=LockOwner), silence)
    except (ValueError, msgspec.DecodeError):
        # Empty, half written or damaged: somebody may hold it, so it counts as a lock and only its silence frees it.
        return HeldLock(None, silence)


def _process_start(pid: int) -> str | None:
    """When a process started, in ticks since the boot; empty for one that has ended; None where /proc is missing."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    # The second field is the program's name in brackets, which may itself hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    state = fields[0]
    if state in "ZX":  # killed, but its parent has not asked for its exit code yet
        return ""
    return fields[19]


def _machine() -> str:
    """Names this boot of this machine and this space of process ids; containers on one host have different ones."""
    # The name of the machine alone does not do: process ids start over with each boot and in each container.
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
