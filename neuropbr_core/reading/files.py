"""Bytes and text of ordinary files.

Reading a named pipe waits for a writer that may never come, and reading a device such as `/dev/zero` never ends. So
what is read must be an ordinary file, and of a size that its purpose allows.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

LARGEST = 256 * 2**20
"""Bytes that a document may have. The largest of ours, cameras of a hundred thousand samples, have a third of it."""

_TYPES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_plain_name(name: object) -> bool:
    """Whether a value is a name of one file or folder: text that leads to no other folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def check_ordinary(path: Path) -> None:
    """Refuse what is no ordinary file; links to ordinary files are fine.

    Args:
        path: The file, which must exist.

    Raises:
        OSError: It does not exist, or is a folder, a named pipe, a socket or a device.
    """
    _refuse_special(path, path.stat())


def open_bytes(path: Path) -> BufferedReader:
    """Open an ordinary file for reading.

    Raises:
        OSError: It cannot be read, or is no ordinary file.
    """
    # Not to block: opening a pipe for reading would wait for a writer. Ordinary files are read as usual.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _refuse_special(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")  # noqa: PTH123 - of a descriptor, and the caller closes it


def read_bytes(path: Path, *, largest: int = LARGEST) -> bytes:
    """Read an ordinary file.

    Args:
        path: The file.
        largest: Bytes that it may have.

    Raises:
        OSError: It cannot be read, is no ordinary file, or is larger.
    """
    with open_bytes(path) as file:
        if os.fstat(file.fileno()).st_size > largest:
            raise OSError(errno.EFBIG, f"is larger than {largest >> 20} MiB, which no such file is", str(path))
        return file.read()


def read_text(path: Path, *, largest: int = LARGEST) -> str:
    """Read an ordinary file of UTF-8 text.

    Raises:
        OSError: As `read_bytes`.
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_bytes(path, largest=largest).decode("utf-8")


def _refuse_special(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    sort = "no ordinary file"
    for matches, name in _TYPES:
        if matches(status.st_mode):
            sort = name
    number = errno.EINVAL
    if stat.S_ISDIR(status.st_mode):
        number = errno.EISDIR
    raise OSError(number, f"is {sort}, and a file is needed", str(path))
