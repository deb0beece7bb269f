"""Which exported files this machine wrote itself, and may therefore open without a second thought.

An exported file is a program. Exporters open files of strangers with care (`Exporter.load_untrusted`) and refuse those
that could do more than compute. A file that this machine exported needs no such care, wherever it has been moved to:
its SHA-256 is in a list in the user's data directory. The list is a convenience and no lock; whoever can write it can
do anything as that user already.
"""

import hashlib
import os
from pathlib import Path

from neuropbr_core.reading import open_bytes
from neuropbr_core.reporting import reporter
from neuropbr_core.user_data import is_remembered, remember

_EXPORTS = "exports.txt"


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
    try:
        remember(_EXPORTS, digest, name)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        reporter().warning(
            f"the list of own exports could not be written ({error}); opening {name} later may need --trust"
        )


def is_own_export(digest: str) -> bool:
    """Whether this machine exported the file with that `content_digest`."""
    return is_remembered(_EXPORTS, digest)
