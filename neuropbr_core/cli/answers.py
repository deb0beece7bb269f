"""Answers that the program gives again, without working them out, while all that they depend on is as it was.

`recipe check` loads PyTorch, which takes seconds, and `list-plugins` reads the metadata of all that is installed. What
their answers depend on is looked at in milliseconds: the words of the command, where it was given, what is installed,
and files that the command names. A changed time or size of any of these makes the command work its answer out again.

Answers lie in the folder `answers` of the user's data, one file for each command line. They are conveniences: whoever
removes them loses seconds.
"""

import os
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
_CLOCK_STEP_NS = 10_000_000
"""By how much the time of a change may lie before the moment of the change: file systems count in steps."""


# No dataclass, and no module beyond those that click imports: each would take a part of what an answer saves.
class Question:
    """The words of one call of the program, which it may have answered before.

    Args:
        words: What follows the program's name.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._asked_ns = time.time_ns()

    def answer(self) -> str | None:
        """What the program answered before; None when it did not, or when something has changed since."""
        path = self._path
        if path is None or not path.is_file():
            return None
        import json

        # Written by this module, but a disk may be damaged, and another version may have written something else.
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
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
            watched: Files and folders that the answer depends on, beside what is installed. They may be missing.
        """
        path = self._path
        if path is None:
            return
        import json

        from neuropbr_core.files import write_text

        with suppress(OSError):
            states = {}
            for file in watched:
                name = os.path.abspath(file)  # noqa: PTH100 - links are left as they are
                states[name] = _state(name)
            times = [state[0] for state in states.values() if state is not None]
            # What changed since the command was called may have changed after it was read.
            if max(times, default=0) >= self._asked_ns - _CLOCK_STEP_NS:
                return
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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

    @property
    def _circumstances(self) -> dict[str, Any]:
        """What every answer depends on, as JSON has it."""
        variables = {name: value for name, value in os.environ.items() if name.startswith("NEUROPBR_")}
        # Installing and removing a distribution changes the folder that it is in.
        installed = [[folder, _state(os.path.abspath(folder))] for folder in sys.path]  # noqa: PTH100 - as above
        return {
            "words": self._words,
            "folder": os.getcwd(),  # noqa: PTH109 - a text
            "python": sys.version,
            "variables": variables,
            "installed": installed,
        }


def _escaped(character: str) -> str:
    """A character as every file system can have it in a name."""
    if character.isascii() and (character.isalnum() or character in " -_."):
        return character
    return f"%{ord(character):x}"


def _state(path: str) -> list[int] | None:
    """Time of the last change in nanoseconds and size in bytes; None for what is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 - of texts, several hundred of them
    except (OSError, ValueError):  # ValueError: a text with a zero byte
        return None
    return [status.st_mtime_ns, status.st_size]
