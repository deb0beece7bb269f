"""Dataclasses of components' options: what their annotations say beyond types."""

from typing import Any, get_type_hints

import msgspec

from neuropbr_core.plugin import BELONGS_TO
from neuropbr_core.shown import describe


def belongings(options: type) -> dict[str, Any]:
    """The options that belong to a choice (`plugin.BELONGS_TO`): for each, the name of the option that chooses.

    Args:
        options: Dataclass of a component's options.
    """
    owners = {}
    for name, hint in get_type_hints(options, include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, msgspec.Meta) and BELONGS_TO in (note.extra or {}):
                owners[name] = (note.extra or {})[BELONGS_TO]
    return owners


def undescribed_field(options: type) -> str:
    """The first field of an options dataclass whose type has no JSON Schema."""
    try:
        types = get_type_hints(options, include_extras=True)
    except Exception as error:
        return f"since its annotations cannot be read ({describe(error)})"
    for name, kind in types.items():
        try:
            msgspec.json.schema(kind)
        except Exception:
            return f"`{name}`"
    return "by itself"
