"""Dataclasses of components' options: what their annotations say beyond types."""

import dataclasses
from collections.abc import Mapping
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


def options_to_set(options_type: type, values: Mapping[str, Any]) -> list[str]:
    """Names of the options that have no default and no value either.

    Args:
        options_type: The options dataclass.
        values: Options by name.
    """
    names = []
    for field in dataclasses.fields(options_type):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.init and not has_default and field.name not in values:
            names.append(field.name)
    return names


def missing_words(names: list[str]) -> str:
    """What an author should do about options without a default, as a sentence without its full stop.

    Args:
        names: What `options_to_set` returned.
    """
    options = f"option {names[0]!r} has"
    if len(names) > 1:
        options = f"options {', '.join(map(repr, names))} have"
    return (
        f"{options} no default: give every option one, so that a recipe may name the component alone, or say which "
        f"value to check it with"
    )
