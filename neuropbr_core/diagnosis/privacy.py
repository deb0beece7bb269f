"""Takes out of a text what a bug report should not show: user names, host names, and where folders are."""

import getpass
import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_FILE_ADDRESS = re.compile(r"file://[^/\s]*", re.IGNORECASE)
"""What stands before the path in an address of a file; it may name a host."""

_HOME = re.compile(r"(?:\b[A-Za-z]:)?(?:/|\\{1,2})(?:home|Users)(?:/|\\{1,2})[^/\\\s'\"`:;,()]+", re.IGNORECASE)
"""Anybody's home folder; backslashes are doubled in what Python quotes."""

_CREDENTIALS = re.compile(r"://[^/\s]+@")
"""User name and password in an address; a password may have an `@` too."""

_PATH = re.compile(r"(?<![\w.~…/])(?:~|[A-Za-z]:)?(?:(?:/|\\{1,2})[^\s/\\'\"`:;,()<>|*?]+){2,}")
"""An absolute path of two parts or more; no part begins at the second `/` of `://`, which begins an address."""

_KEPT_PARTS = 2
"""Parts at the end of a path that stay: they tell which file it is, and not whose."""

_SHORTEST_NAME = 3
"""Shorter names of users and hosts are parts of ordinary words."""

_ORDINARY_NAMES = {"root", "user", "admin", "runner", "ubuntu", "localhost", "docker"}
"""Names that tell nothing about a person, and that are words of messages."""


def anonymous(text: str, names: Iterable[str] | None = None, homes: Iterable[str] | None = None) -> str:
    """Replace home folders by `~`, user and host names by `…`, and shorten paths to their last two parts.

    User names and passwords in addresses become `…` too.

    Args:
        text: Any text.
        names: Names to take out; default: those of the user and of this machine.
        homes: Home folders, besides all folders in `/home` and `Users`; default: that of the user.
    """
    if names is None:
        names = [socket.gethostname(), socket.gethostname().partition(".")[0]]
        for variable in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"):
            names.append(os.environ.get(variable, ""))
        with suppress(OSError, KeyError):  # a container may run as a user that has no name
            names.append(getpass.getuser())
    if homes is None:
        homes = [os.environ.get("HOME", "")]
        with suppress(RuntimeError):  # there is no home
            homes += [str(Path.home()), str(Path.home().resolve())]
    # The longest first, because one may be a part of another.
    for home in sorted(set(homes), key=len, reverse=True):
        if len(home) > 1:
            text = re.sub(rf"{re.escape(home)}(?![\w-])", "~", text)
    # Before the paths: of a short path in somebody else's home, the user name would stay.
    text = _FILE_ADDRESS.sub("file:", text)
    text = _HOME.sub("~", text)
    text = _CREDENTIALS.sub("://…@", text)
    text = _PATH.sub(_shortened, text)
    for name in sorted(set(names), key=len, reverse=True):
        if len(name) >= _SHORTEST_NAME and name.lower() not in _ORDINARY_NAMES:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text, flags=re.IGNORECASE)
    return text


def _shortened(match: re.Match[str]) -> str:
    parts = re.split(r"[/\\]+", match[0])
    kept = []
    for part in parts[-_KEPT_PARTS:]:
        # `~/x` has a home in front of it, which is shortened like any folder.
        if part not in ("", "~"):
            kept.append(part)
    return "…/" + "/".join(kept)
