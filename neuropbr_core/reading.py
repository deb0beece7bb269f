"""Files that people and programs bring: read as data, and checked for their shape.

Reading a named pipe waits for a writer that may never come, and reading a device such as `/dev/zero` never ends. So
what is read must be an ordinary file, and of a size that its purpose allows.

JSON that the project reads back is checked against a type. Whatever is read has crossed a boundary: people edit such
files, disks damage them, and strangers send them. The type says which keys there are and what each holds; a message
names the file, the key, what was found and what is allowed.
"""

import errno
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.shown import shortened
from neuropbr_core.suggestions import did_you_mean

T = TypeVar("T")

LARGEST = 256 * 2**20
"""Bytes that a document may have. The largest of ours, cameras of a hundred thousand samples, have a third of it."""

_TYPES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_noted: ContextVar[set[Path] | None] = ContextVar("noted", default=None)
"""Where `open_bytes` notes what it opens."""

_DEEPEST = 64
"""Levels that a document may be nested; ours have fewer than ten."""


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


@contextmanager
def noting_reads() -> Iterator[set[Path]]:
    """Context that notes which files this module opens, whether that succeeds or not.

    Yields:
        The files so far.
    """
    files = set[Path]()
    token = _noted.set(files)
    try:
        yield files
    finally:
        _noted.reset(token)


def open_bytes(path: Path) -> BufferedReader:
    """Open an ordinary file for reading.

    Raises:
        OSError: It cannot be read, or is no ordinary file.
    """
    noted = _noted.get()
    if noted is not None:
        noted.add(path)
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


class DocumentError(ValueError):
    """A text is not the JSON that is wanted; the message names the key and what is wrong."""


def read_json(path: Path, kind: type[T], error: type[NeuroPBRError], advice: str, *, largest: int = LARGEST) -> T:
    """Read a JSON file.

    Args:
        path: The file.
        kind: Type of its content: dataclasses, structs, dictionaries, lists and scalars, as msgspec converts them.
        error: Class of the error.
        advice: What to do about a file that cannot be used; the end of the message.
        largest: Bytes that it may have.

    Raises:
        NeuroPBRError: Of class `error`. The file is missing, cannot be read, is no JSON, or has another shape.
    """
    try:
        return parse_json(read_bytes(path, largest=largest), kind)
    except FileNotFoundError:
        raise error(f"{path}: there is no such file; {advice}") from None
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror}); {advice}") from cause
    except DocumentError as cause:
        raise error(f"{path}: {cause}; {advice}") from cause


def parse_json(text: bytes | str, kind: type[T]) -> T:
    """Turn a JSON text into a value of a type.

    Args:
        text: UTF-8 text.
        kind: As for `read_json`.

    Raises:
        DocumentError: The text is no JSON, names a key twice, is nested too deep, has numbers or text that JSON does
            not have (NaN, lone surrogates), or has other keys or types than `kind`.
    """
    return convert_json(parse_plain(text), kind)


def convert_json(plain: Any, kind: type[T]) -> T:
    """Turn dictionaries, lists and scalars into a value of a type.

    Raises:
        DocumentError: They have other keys or types than `kind`.
    """
    try:
        value: T = msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        # The place comes first here, and last in msgspec's message: "Expected `int`, got `str` - at `$.samples`".
        message = str(error)
        problem, at, place = message.rpartition(" - at `")
        if at:
            place = place.removesuffix("`").removeprefix("$").removeprefix(".")
            message = f"{place or 'the document'}: {problem}"
        raise DocumentError(shortened(message)) from None
    # msgspec passes over keys that a class does not have; a misspelt one would silently mean its default.
    for place, key, known in _unknown_keys(plain, inspect.type_info(kind), "", 0):
        near = did_you_mean(key, known)
        raise DocumentError(f"unknown key {place}{shortened(key, 60)}; allowed: {', '.join(known) or 'none'}.{near}")
    return value


def parse_plain(text: bytes | str) -> Any:
    """Turn a JSON text into dictionaries, lists and scalars, without a type to check them against.

    Raises:
        DocumentError: As `parse_json`, keys and types aside.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        plain = json.loads(
            text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant, parse_float=_finite
        )
        # Written once, since only then do lone surrogates show, which no file and no terminal takes.
        json.dumps(plain, ensure_ascii=False).encode()
    except DocumentError:
        raise
    except json.JSONDecodeError as error:
        raise DocumentError(f"is no JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise DocumentError(f"is not UTF-8 text (byte {error.start})") from None
    except UnicodeEncodeError:
        raise DocumentError("holds half of a character (a lone surrogate)") from None
    except RecursionError:
        raise DocumentError("is nested too deep") from None
    except ValueError as error:  # such as a number of five thousand digits
        raise DocumentError(f"is no JSON: {shortened(str(error))}") from None
    if _is_deep(plain):
        raise DocumentError(f"is nested deeper than {_DEEPEST} levels")
    return plain


def _is_deep(plain: Any) -> bool:
    """Whether a document is nested deeper than any of ours; later steps call themselves once a level."""
    level = [plain]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        if not inner:
            return False
        level = inner
    return True


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object and refuse a repeated key, of which Python would silently keep the last."""
    plain = dict(pairs)
    if len(plain) < len(pairs):
        key, times = Counter(name for name, _ in pairs).most_common(1)[0]
        raise DocumentError(f"key {shortened(key, 60)!r} appears {times} times; keep one of them")
    return plain


def _refuse_constant(name: str) -> Any:
    raise DocumentError(f"holds {name}, which is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # Python reads 1e999 as infinity
        raise DocumentError(f"holds {shortened(text, 40)}, which is too large a number")
    return number


def _unknown_keys(plain: Any, kind: inspect.Type, place: str, depth: int) -> Iterator[tuple[str, str, list[str]]]:
    """Keys of objects that their classes do not have: the place, the key, and the keys that there are."""
    match kind:
        case inspect.DataclassType(fields=fields) | inspect.StructType(fields=fields) if isinstance(plain, dict):
            types = {field.encode_name: field.type for field in fields}
            for key, value in plain.items():
                if key not in types:
                    yield place, key, list(types)
                else:
                    yield from _unknown_keys(value, types[key], f"{place}{key}.", depth + 1)
        case inspect.DictType(value_type=inner) if isinstance(plain, dict):
            for key, value in plain.items():
                yield from _unknown_keys(value, inner, f"{place}{shortened(key, 60)}.", depth + 1)
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner) if isinstance(plain, list):
            for index, value in enumerate(plain):
                yield from _unknown_keys(value, inner, f"{place}{index}.", depth + 1)
        case inspect.UnionType(types=alternatives):
            for alternative in alternatives:
                yield from _unknown_keys(plain, alternative, place, depth)
