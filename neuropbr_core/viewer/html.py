"""HTML from nested elements; every text that is no HTML already is escaped."""

import base64
import hashlib
import html
import json
from typing import Any

_VOID = ("img", "input", "link", "meta")
"""Elements without content, which have no end tag."""

_IN_SCRIPTS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Characters of JSON that could end a script element, and line separators that older JavaScript does not take."""


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def element(tag: str, /, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """Write an element.

    Args:
        tag: Its name.
        *children: Its content; `Html` as it is, other text escaped, None left out.
        **attributes: Its attributes. A trailing `_` is removed (`class_`), other `_` become `-` (`data_map`). True
            writes the name alone; False and None leave the attribute out.
    """
    parts = [f"<{tag}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        parts.append(" " + key.removesuffix("_").replace("_", "-"))
        if value is not True:
            parts.append(f'="{_escaped(str(value))}"')
    parts.append(">")
    if tag in _VOID:
        return Html("".join(parts))
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif child is not None:
            parts.append(_escaped(child))
    parts.append(f"</{tag}>")
    return Html("".join(parts))


def join(*parts: Html | None) -> Html:
    """Put elements one after the other, each on a line of its own; None is left out."""
    return Html("\n".join(part for part in parts if part is not None))


def data_script(name: str, value: Any) -> Html:
    """Write plain data as JSON into a script element, which a page's program reads by its id.

    Raises:
        ValueError: A number is not finite, which JSON cannot hold.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in _IN_SCRIPTS.items():
        # These characters occur in strings alone, where JSON reads the escape as the character.
        text = text.replace(character, escape)
    # Names of files may hold lone surrogates, which UTF-8 cannot.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return Html(f'<script type="application/json" id="{_escaped(name)}">{text}</script>')


def inline_program(text: str) -> tuple[Html, str]:
    """Write a program into a script element.

    Returns:
        The element, and its source as a content security policy names it: by its hash, so that no other program runs.
    """
    # Browsers hash what is between the tags, byte by byte.
    digest = hashlib.sha256(text.encode()).digest()
    return Html(f"<script>{text}</script>"), f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _escaped(text: str) -> str:
    """Escape text for content and quoted attributes; lone surrogates, which UTF-8 cannot hold, become `?`."""
    return html.escape(text.encode("utf-8", "replace").decode("utf-8").replace("\0", "�"))
