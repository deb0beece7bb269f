"""What the project keeps for a user beside datasets and runs: a folder, and lists of digests in it.

A list is a text file with a line `DIGEST  NAME` for each thing that it remembers. The lists are conveniences and no
locks; whoever can write them can do anything as that user already.
"""

import os
import re
import sys
from pathlib import Path

HOME_VARIABLE = "NEUROPBR_DATA_HOME"
"""Environment variable that names the folder, in place of the system's folder for users' data."""

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


def make_data_home() -> Path:
    """Make the folder where it is missing, for its user alone, and return it.

    Raises:
        OSError: It cannot be made.
        RuntimeError: There is no home directory.
    """
    home = data_home()
    # The lists in it decide which files are trusted, so that nobody else may write them.
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home


def remember(list_name: str, digest: str, name: str) -> None:
    """Add a line to a list.

    Args:
        list_name: Its file in the user's folder.
        digest: SHA-256 in hexadecimal.
        name: For people who read the list.

    Raises:
        OSError: The list cannot be written.
        RuntimeError: There is no home directory.
    """
    path = make_data_home() / list_name
    # Appended in one write: processes that do so at the same time do not tear each other's lines.
    with path.open("a", encoding="utf-8") as lines:
        lines.write(f"{digest}  {name!r}\n")


def is_remembered(list_name: str, digest: str) -> bool:
    """Whether a digest is in a list; not when the list cannot be read.

    Args:
        list_name: Its file in the user's folder.
        digest: SHA-256 in hexadecimal.
    """
    # Imported here, because the program looks for its folder at each start.
    from neuropbr_core.reading import read_text

    try:
        lines = read_text(data_home() / list_name).splitlines()
    except (OSError, ValueError, RuntimeError):
        return False
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is not None and match["digest"] == digest:
            return True
    return False
