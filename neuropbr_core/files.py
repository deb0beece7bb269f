"""Writing files so that a reader sees the old content or the new one, never half."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and move it there.

    Raises:
        OSError: It could not be written; `path`, which the error names, is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not say where


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for text, as UTF-8."""
    write_bytes(path, content.encode())


@contextmanager
def usual_mode(path: Path) -> Iterator[None]:
    """Context in which a library writes `path`: it can then be read by all who may read other new files.

    safetensors writes files that their owner alone can read, whatever the umask says.
    """
    path.touch()
    mode = path.stat().st_mode
    yield
    with suppress(OSError):  # a file system without modes
        path.chmod(mode)


def file_name(name: str) -> str:
    """Any name as a file's, with everything that could lead elsewhere turned into `_`."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".")
