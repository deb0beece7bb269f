"""The file of a report: it replaces an earlier report and nothing else, and is written whole or not at all."""

import re
from pathlib import Path

from neuropbr_core.errors import DataError
from neuropbr_core.files import write_text

REPORT_NAME = "report.html"
GENERATOR = "neuropbr report"
"""Content of a page's `generator`, by which reports are told from other files."""
_HEAD = 2000
"""Characters at the beginning of a page that hold its `generator` and its key."""
_GENERATOR = re.compile(rf'<meta name="generator" content="{GENERATOR}"')
_KEY = re.compile(r'<meta name="neuropbr-key" content="([0-9a-f]*)"')


def check_report_place(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a place where a report would replace something else.

    Args:
        path: The file to write.
        overwrite: Whether the user allowed to replace whatever file is there.

    Raises:
        DataError: There is a folder, or a file that is no report.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file, such as {path / REPORT_NAME}")
    # A link to nothing does not exist for Python, and writing would replace it.
    if overwrite or not (path.exists() or path.is_symlink()):
        return
    if not _GENERATOR.search(_head_of(path)):
        raise DataError(f"{path}: is there already and is no report; choose another --output, or give --overwrite")


def report_key(path: Path) -> str | None:
    """The key that a report was written with (`contents.Report.key`); None for anything else."""
    head = _head_of(path)
    match = _KEY.search(head)
    if match is None or not _GENERATOR.search(head):
        return None
    return match.group(1)


def write_report(path: Path, page: str) -> None:
    """Write a report's page.

    Raises:
        OSError: It could not be written; `path` is as it was.
    """
    write_text(path, page)


def _head_of(path: Path) -> str:
    # Only of ordinary files: a pipe would wait for a writer.
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return ""
