"""Writes files and folders so that a reader sees the old content or the new content, never half of it."""

import errno
import json
import math
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

_SIBLING = re.compile(r"\.(.+)\.(writing|replaced)-(.+)-(\d+)")
"""What `_sibling` makes of a name: the name, the state, the host and the number of the process."""

_ABANDONED_SECONDS = 24 * 3600
"""Age from which a temporary file of another host counts as abandoned. Processes of another host cannot be asked."""


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Context that writes a file or a folder beside its place and moves it there at the end.

    The block writes a file or a folder at the path that it receives. After an exception, the written part is removed
    and `path` is as it was. Temporary files that killed processes left in the folder are removed first.

    Args:
        path: The final place of the file or folder, whose present content is replaced.
        durable: Whether the content is stored on the disk before it gets its name, so that even a power cut leaves no
            half-written file.

    Yields:
        Where to write; the folder above it exists.

    Raises:
        OSError: It could not be written; the error names `path`.
    """
    _refuse_special(path)
    path.parent.mkdir(parents=True, exist_ok=True)  # its own errors name the folder that is in the way
    try:
        _recover(path)
        aside = _sibling(path, "writing")
        try:
            yield aside
            if durable:
                if aside.is_dir():
                    for inner in aside.rglob("*"):
                        _sync(inner)
                _sync(aside)
            _move_into_place(aside, path)
            if durable:
                _sync(path.parent)
        finally:
            remove(aside)
    except OSError as error:
        if error.filename is not None and str(path.parent) not in str(error.filename):
            raise  # the block had trouble with another file
        if error.errno is None:
            # A library's own error, such as Pillow's, has a text and no number; a new error would lose the text.
            error.add_note(f"this happened while {path} was written")
            raise
        # The error of a full disk names no file, and the temporary name would mean nothing to the user.
        named = OSError(error.errno, error.strerror, str(path))
        for note in getattr(error, "__notes__", ()):
            named.add_note(note)
        raise named from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        OSError: It could not be written; `path`, which the error names, is as it was.
    """
    with replacing(path) as aside:
        aside.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for text, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: object) -> None:
    """Write plain data, dataclasses or msgspec structs as indented JSON, whole or not at all.

    Raises:
        OSError: It could not be written; `path` is as it was.
        ValueError: A number is not finite, which JSON cannot hold.
    """
    write_bytes(path, json_text(value).encode())


def json_text(value: object) -> str:
    """Plain data, dataclasses or msgspec structs as indented JSON text, with a newline at the end.

    Raises:
        ValueError: A number is not finite, which JSON cannot hold.
    """
    plain = msgspec.to_builtins(value, str_keys=True)
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The same dictionaries, lists and scalars with None for every float that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its content; nothing happens when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def usual_mode(path: Path) -> Iterator[None]:
    """Context in which a library writes `path`: it can then be read by all who may read other new files.

    safetensors writes files that their owner alone can read, whatever the umask is.
    """
    path.touch()  # an ordinary new file has the mode that the umask gives
    mode = path.stat().st_mode
    yield
    with suppress(OSError):  # a file system without modes
        path.chmod(mode)


def file_name(name: str) -> str:
    """Turn any name into a file's name. Characters that could lead to another folder become `_`."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".")


def process_is_alive(pid: int) -> bool:
    """Whether a process of this host with this number runs."""
    try:
        os.kill(pid, 0)  # signal 0 asks only
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it runs, as another user
    return True


def is_abandoned(left: Path, host: str, pid: int) -> bool:
    """Whether the process that a temporary file or folder belongs to has ended without removing it.

    Args:
        left: The file or folder.
        host: Name of the process's host.
        pid: Number of the process.
    """
    if host == socket.gethostname():
        # A file of this very process is of an earlier attempt that failed to remove it.
        return pid == os.getpid() or not process_is_alive(pid)
    try:
        return time.time() - left.lstat().st_mtime > _ABANDONED_SECONDS
    except OSError:
        return False  # its writer has just finished


def _refuse_special(path: Path) -> None:
    """Refuse to put a file in the place of a device, a pipe or a socket, such as `/dev/null`."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # there is nothing, or a link to nothing
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "is a device, a pipe or a socket, which is never replaced", str(path))


def _sibling(path: Path, state: str) -> Path:
    """Return a hidden name beside `path`.

    The name contains host and process, by which the next writer recognises whether the file is abandoned. It is in the
    same folder, because only within one file system is a rename a single step.
    """
    return path.with_name(f".{path.name}.{state}-{socket.gethostname()}-{os.getpid()}")


def _recover(path: Path) -> None:
    """Remove temporary files of killed writers in `path`'s folder, and restore content that one had moved aside."""
    for left in path.parent.glob(".*"):
        match = _SIBLING.fullmatch(left.name)
        if match is None:
            continue
        name, state, host, pid = match.groups()
        if int(pid) == os.getpid() and host == socket.gethostname() and name != path.name:
            continue  # another thread of this process writes it
        if not is_abandoned(left, host, int(pid)):
            continue
        if state == "replaced" and not left.with_name(name).exists():
            left.rename(left.with_name(name))  # the writer was killed between its two renames
        else:
            remove(left)


def _move_into_place(aside: Path, path: Path) -> None:
    """Rename `aside` to `path`."""
    if not path.is_dir() and not aside.is_dir():
        aside.replace(path)
        return
    # A file replaces a file in one step. A folder that is not empty cannot be replaced, so it is moved away first.
    old = _sibling(path, "replaced")
    try:
        if path.exists():
            path.rename(old)
        aside.rename(path)
    except BaseException:  # also an interrupt between the two
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    remove(old)


def _sync(path: Path) -> None:
    """Have the disk store a file's content, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
