"""Zip archives of PyTorch as they come from strangers: read member by member, checked, and packed anew.

PyTorch's own reader and Python's differ in what they make of a crooked archive, such as one with two members of a name.
So what was checked is written into a new archive in memory, and PyTorch reads that one alone.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from neuropbr_core.errors import ExportError
from neuropbr_exporters.files import damaged, existing

_LARGEST_TEXT = 64 * 2**20
"""Bytes that a member of text may have: programs of generators have less than a thousandth of it."""

Members = dict[str, bytes]
"""The content of an archive by name, without the archive's top folder."""


def read_members(path: Path, exporter: str, *, file_type: str, allowed: Sequence[re.Pattern[str]]) -> Members:
    """Read an archive, whose members must all have names that its format uses.

    Args:
        path: The file.
        exporter: The exporter's name, for messages.
        file_type: Such a file in words, with its article.
        allowed: What names of members look like, without the top folder.

    Raises:
        ExportError: The file is missing or damaged, or has a member that no exported model needs.
    """
    members: Members = {}
    roots = set()
    # A compressed member may be a thousand times larger than the file; stored ones, as weights are, are not.
    budget = existing(path, exporter).stat().st_size + _LARGEST_TEXT
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                root, _, name = info.filename.partition("/")
                roots.add(root)
                if not any(pattern.fullmatch(name) for pattern in allowed):
                    raise refusal(path, f"it holds {info.filename[:80]!r}, which an exported model has no use for")
                if name in members or len(roots) > 1:
                    raise refusal(path, f"its member {info.filename[:80]!r} is there twice, or beside the others")
                budget -= info.file_size
                if budget < 0:
                    raise refusal(path, "unpacked, it is far larger than the file")
                members[name] = archive.read(info)  # the checksum is compared while it is read
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
        raise damaged(path, file_type, error) from error
    return members


def pack(members: Mapping[str, bytes]) -> io.BytesIO:
    """Write members into a new archive in memory, as PyTorch reads it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(f"model/{name}", data)
    content.seek(0)
    return content


def refusal(path: Path, reason: str) -> ExportError:
    """The error for a file that could do more than compute maps.

    Args:
        path: The file.
        reason: What was found in it.
    """
    return ExportError(
        f"{path}: {reason}; such a file may be a program that does more than compute maps. Ask its author, or, if you "
        f"know where it is from, run it with --trust"
    )
