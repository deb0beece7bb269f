"""The nearest known name, for errors about an unknown one."""

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'NAME'?` with the known name that is nearest to `name`; nothing when none is near."""
    import difflib  # it takes longer to import than a command line without mistakes takes to parse

    near = difflib.get_close_matches(name, list(known), n=1)
    if not near:
        return ""
    return f" Did you mean {near[0]!r}?"
