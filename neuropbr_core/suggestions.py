"""Suggests the nearest known name in errors about an unknown name."""

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to `name`, or None when none is near."""
    import difflib  # importing it takes longer than parsing a command line without mistakes

    matches = difflib.get_close_matches(name, list(known), n=1)
    if not matches:
        return None
    return matches[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'NAME'?` with the known name that is nearest to `name`; an empty text when none is near."""
    near = nearest(name, known)
    if near is None:
        return ""
    return f" Did you mean {near!r}?"
