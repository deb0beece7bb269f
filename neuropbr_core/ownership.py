"""Which files in a folder the project wrote itself, and may therefore replace.

A command that writes into a folder of the user's notes the SHA-256 of each file there. The next call replaces files
that are as they were noted. A file that somebody else wrote, or edited since, is refused until the user says
`--overwrite`.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from neuropbr_core.errors import DataError, NeuroPBRError
from neuropbr_core.files import write_json
from neuropbr_core.reading import read_json

RECORD = ".neuropbr-written.json"


class _Written(msgspec.Struct):
    files: dict[str, str]


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or below it, however both are spelled.

    File systems that ignore case, as those of macOS, take two spellings for one place; comparing texts would not.

    Args:
        path: Where something is or will be.
        folder: A folder; one that does not exist holds nothing.
    """
    folder = folder.resolve()
    path = path.resolve()
    if not folder.exists():
        return False
    return any(place.exists() and place.samefile(folder) for place in (path, *path.parents))


def refuse_foreign(folder: Path, names: Iterable[str], *, overwrite: bool, option: str = "--output") -> None:
    """Refuse to replace files that the project did not write.

    Args:
        folder: Where files will be written; it need not exist.
        names: Their paths below it.
        overwrite: Whether the user allowed to replace whatever is there.
        option: The option by which the user chooses the place, for messages.

    Raises:
        DataError: The folder has some of these files, they are not ours as we wrote them, and `overwrite` is not set;
            or one of them is no file, which is never replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, and a folder belongs there; choose another {option}")
    written = _read(folder)
    foreign = []
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            raise DataError(f"{path}: is a folder, and a file belongs there; choose another {option}")
        if path.exists() and written.get(name) != _digest(path):
            foreign.append(name)
    if foreign and not overwrite:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise DataError(
            f"{folder / foreign[0]}{more}: there already, and not as neuropbr wrote it; choose another {option}, or "
            f"replace it with --overwrite"
        )


def remember_written(folder: Path, paths: Iterable[Path]) -> None:
    """Note that files below a folder were written by the project.

    Raises:
        OSError: The note cannot be written.
    """
    files = _read(folder)
    for path in paths:
        files[path.relative_to(folder).as_posix()] = _digest(path)
    write_json(folder / RECORD, _Written(dict(sorted(files.items()))))


@contextmanager
def remembering(folder: Path, paths: Iterable[Path]) -> Iterator[None]:
    """Context in which files below a folder are written; they are noted at its end, also after an error.

    Use it behind `refuse_foreign`, after which whatever is there may be replaced.

    Args:
        folder: The folder.
        paths: The files; those that are not there at the end are left out.
    """
    try:
        yield
    finally:
        written = [path for path in paths if path.is_file()]
        if written:
            remember_written(folder, written)


def remove_earlier(folder: Path, names: Iterable[str]) -> None:
    """Remove files that the project wrote before, if they are still as it wrote them.

    Args:
        folder: Where they are; it need not exist.
        names: Their paths below it; those that were not written by the project stay.
    """
    files = _read(folder)
    removed = False
    for name in names:
        if name in files and files[name] == _digest(folder / name):
            (folder / name).unlink()
            del files[name]
            removed = True
    if removed:
        write_json(folder / RECORD, _Written(dict(sorted(files.items()))))


def wrote(folder: Path, names: Iterable[str]) -> bool:
    """Whether the project wrote one of these files into a folder."""
    return not _read(folder).keys().isdisjoint(names)


def is_as_written(folder: Path) -> bool:
    """Whether the project wrote files into a folder, and all of them are there as it wrote them."""
    files = _read(folder)
    return bool(files) and all(_digest(folder / name) == digest for name, digest in files.items())


def _read(folder: Path) -> dict[str, str]:
    if not (folder / RECORD).exists():
        return {}
    try:
        return read_json(folder / RECORD, _Written, DataError, "it is ignored").files
    except NeuroPBRError:
        return {}  # then nothing counts as ours


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
