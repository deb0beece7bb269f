"""Answers that the program gives again, without working them out, while all that they depend on is as it was.

`recipe check` loads PyTorch, which takes seconds, and `list-plugins` reads the metadata of all that is installed. What
their answers depend on is looked at in milliseconds: the words of the command, where it was given, what is installed,
and files that the command names. When a time, size or number of any of these is another one, the answer is worked out
again.

Answers lie in the folder `answers` of the user's data, one file for each command line. They are conveniences: whoever
removes them loses seconds.
"""

import os
import stat
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_FOLDER = "answers"
_MOST = 64
"""Answers that are kept; the oldest make room."""

_LONGEST_NAME = 120
_SETTLED_NS = 2_000_000_000
"""Time after which a change shows in the times of files on every file system; FAT counts in steps of two seconds."""


# No dataclass, and no module beyond those that click imports: each would take a part of what an answer saves.
class Question:
    """The words of one call of the program, which it may have answered before.

    Args:
        words: What follows the program's name.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._asked_ns = time.time_ns()
        self._folders = list(sys.path)
        self._circumstances = self._look_around()

    def answer(self) -> str | None:
        """What the program answered before; None when it did not, or when something has changed since."""
        path = self._path
        if path is None:
            return None
        import json

        # Written by this module, but a disk may be damaged, another version may have written something else, and too
        # deep a JSON text is a RuntimeError.
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            if not path.is_file():
                return None
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["circumstances"] != self._circumstances:
                return None
            for watched, state in kept["watched"].items():
                if _state(watched) != state:
                    return None
            return str(kept["answer"])
        return None

    def keep(self, answer: str, watched: Iterable[Path | str]) -> None:
        """Keep an answer; where nothing can be written, it is worked out again next time.

        Args:
            answer: What the program wrote to standard output, without the last line break.
            watched: Files that the answer depends on, beside what is installed. They may be missing, or be folders,
                of which only counts that they are there.
        """
        path = self._path
        if path is None:
            return
        import json

        from neuropbr_core.files import write_text
        from neuropbr_core.user_data import make_data_home

        with suppress(OSError):
            states = {}
            for file in watched:
                name = os.path.abspath(file)  # noqa: PTH100 - links are left as they are
                states[name] = _state(name)
            # What changed since the command was called may have changed after it was read.
            changes = [max(state[:2]) for state in states.values() if state]
            if max(changes, default=0) >= self._asked_ns - _SETTLED_NS or self._look_around() != self._circumstances:
                return
            make_data_home()
            path.parent.mkdir(exist_ok=True)
            content = {"circumstances": self._circumstances, "watched": states, "answer": answer}
            write_text(path, json.dumps(content))
            answers = sorted(path.parent.glob("*.json"), key=lambda other: other.stat().st_mtime_ns)
            for old in answers[:-_MOST]:
                old.unlink()

    @property
    def _path(self) -> Path | None:
        """Where the answer is kept; None for words that no file is named after."""
        from neuropbr_core.user_data import data_home

        name = "".join(map(_escaped, " ".join(self._words)))
        if not 0 < len(name) <= _LONGEST_NAME:
            return None
        try:
            return data_home() / _FOLDER / f"{name}.json"
        except RuntimeError:  # there is no home directory
            return None

    def _look_around(self) -> dict[str, Any]:
        """What every answer depends on, as JSON has it."""
        variables = {name: value for name, value in os.environ.items() if name.startswith("NEUROPBR_")}
        return {
            "words": self._words,
            "folder": os.getcwd(),  # noqa: PTH109 - a text
            "python": sys.version,
            "variables": variables,
            "installed": [[folder, _distributions(folder)] for folder in self._folders],
        }


def _distributions(folder: str) -> list[Any]:
    """Names and states of what a folder of the path tells about distributions; for an archive, its own state."""
    found: list[Any] = []
    try:
        for name in sorted(os.listdir(folder or os.curdir)):  # noqa: PTH208 - texts
            if name.endswith(("-info", ".egg-link", ".pth")):
                place = os.path.join(folder, name)  # noqa: PTH118
                # An installer makes a new folder; who builds in place writes the metadata of the old one anew.
                parts = [place, os.path.join(place, "METADATA"), os.path.join(place, "PKG-INFO")]  # noqa: PTH118
                found.append([name, *map(_state, parts)])
    except OSError:
        return [_state(folder)]
    return found


def _escaped(character: str) -> str:
    """A character as every file system can have it in a name."""
    if character.isascii() and (character.isalnum() or character in " -_."):
        return character
    return f"%{ord(character):x}"


def _state(path: str) -> list[int] | None:
    """Times of the last changes in nanoseconds, size and number of a file; None for what is not there.

    Nothing for a folder: what is written into it changes its times, and hardly ever an answer.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - of texts, several hundred of them
    except (OSError, ValueError):  # ValueError: a text with a zero byte
        return None
    if stat.S_ISDIR(status.st_mode):
        return []
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]
