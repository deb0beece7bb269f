"""The nearest known name, for errors about an unknown one."""

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to `name`, or None when none is near."""
    import difflib  # it takes longer to import than a command line without mistakes takes to parse

    matches = difflib.get_close_matches(name, list(known), n=1)
    if not matches:
        return None
    return matches[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'NAME'?` with the known name that is nearest to `name`; nothing when none is near."""
    near = nearest(name, known)
    if near is None:
        return ""
    return f" Did you mean {near!r}?"
