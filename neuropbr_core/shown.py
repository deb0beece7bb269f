"""Text from outside as messages and listings show it.

A terminal obeys control characters: a file's name or a key of a file could move the cursor, hide a line, or write into
the clipboard. They are shown as escapes. Characters that turn the direction of text are shown so too, because a name
could otherwise look like another.
"""

LONGEST = 200
"""Characters of a text from outside that a message shows."""

_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode's categories of controls, invisible marks, lone halves of pairs, private characters and line separators."""

_LINES = "\n\t"
"""Controls that a message of several lines has itself."""


def printable(text: str) -> str:
    """The same text with control characters as escapes, as Python writes them; newlines and tabs are kept.

    Args:
        text: Any text, in which surrogates may stand alone.
    """
    if text.isascii() and text.isprintable():
        return text
    import unicodedata  # a compiled module, which plain texts do not need

    parts = []
    for character in text:
        if character in _LINES or unicodedata.category(character) not in _HIDDEN:
            parts.append(character)
        else:
            parts.append(character.encode("unicode_escape").decode("ascii"))
    return "".join(parts)


def shortened(text: str, limit: int = LONGEST) -> str:
    """A text on one line, printable, and cut to a length; `…` stands for what is left out.

    Args:
        text: Any text.
        limit: Characters to keep, at least 1.
    """
    shown = printable(text[: limit + 1]).replace("\n", "\\n").replace("\t", "\\t")
    if len(text) > limit or len(shown) > limit:
        return f"{shown[:limit]}…"
    return shown


def describe(error: BaseException) -> str:
    """An exception on one line, for use inside a message."""
    # Messages of libraries may have several lines, which would tear the listing that quotes them apart.
    text = shortened(" ".join(str(error).split()), 500)
    if not text:
        return type(error).__name__
    return f"{type(error).__name__}: {text}"
