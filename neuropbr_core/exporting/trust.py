"""Which exported files this machine wrote itself, and may therefore open without a second thought.

An exported file is a program. Exporters open files of strangers with care (`Exporter.load_untrusted`) and refuse those
that could do more than compute. A file that this machine exported needs no such care, wherever it has been moved to:
its SHA-256 is in a list in the user's data directory. The list is a convenience and no lock; whoever can write it can
do anything as that user already.
"""

import hashlib
import os
import re
import sys
from pathlib import Path

from neuropbr_core.reading import open_bytes, read_text
from neuropbr_core.reporting import reporter

HOME_VARIABLE = "NEUROPBR_DATA_HOME"
"""Environment variable that names the folder of the list, in place of the system's folder for users' data."""

_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  .*")


def data_home() -> Path:
    """The folder where the project keeps what belongs to the user and to no dataset or run; it need not exist.

    Source: the XDG Base Directory Specification, and the customs of macOS and Windows.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "neuropbr"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "neuropbr"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "neuropbr"


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names, in hexadecimal.

    Raises:
        OSError: Something could not be read.
    """
    if not path.is_dir():
        with open_bytes(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    # Each file's name is in the digest too: the same bytes under other names are another package.
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir())
    whole = hashlib.sha256()
    for name in names:
        with open_bytes(path / name) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{digest}  ".encode() + os.fsencode(name) + b"\n")  # a name need not be text
    return whole.hexdigest()


def remember_export(digest: str, name: str) -> None:
    """Add a file that was just exported to the list; a list that cannot be written is only warned about.

    Args:
        digest: Its `content_digest`.
        name: Its name, for people who read the list.
    """
    path = data_home() / "exports.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Appended in one write: processes that export at the same time do not tear each other's lines.
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{digest}  {name!r}\n")
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        reporter().warning(f"{path}: could not be written ({error}); opening {name} later may need --trust")


def is_own_export(digest: str) -> bool:
    """Whether this machine exported the file with that `content_digest`."""
    try:
        lines = read_text(data_home() / "exports.txt").splitlines()
    except (OSError, ValueError, RuntimeError):
        return False
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is not None and match["digest"] == digest:
            return True
    return False
