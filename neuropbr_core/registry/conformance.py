"""Checks what a component's hooks hand back, so that a fault is laid at the plugin's door and not deep in a run."""

import dataclasses
from collections.abc import Callable
from importlib import import_module
from typing import Any

import msgspec

from neuropbr_core.kinds import Kind


class DefectError(Exception):
    """A component breaks its contract; the message says how."""


def check_options_type(kind: Kind, options: object) -> type:
    """Check what an options hook returned.

    Args:
        kind: The component's kind.
        options: What the hook returned.

    Returns:
        `options`, a frozen dataclass whose fields leave the core's own keys alone, which has a JSON Schema, and
        whose defaults keep to it.

    Raises:
        DefectError: It is something else.
    """
    hook = kind.options_hook
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        raise DefectError(f"{hook} must return a frozen dataclass type, but returned {options!r}")
    if not options.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise DefectError(f"{hook} returned {options.__qualname__}, which must be a frozen dataclass (frozen=True)")
    reserved = {"use", *(field.name for field in dataclasses.fields(kind.entry_options))}
    if clashes := sorted(reserved & {field.name for field in dataclasses.fields(options)}):
        raise DefectError(
            f"option {', '.join(map(repr, clashes))} of {options.__qualname__} must have another name: "
            f"recipes reserve {', '.join(sorted(reserved))}"
        )
    _check_schema(options)
    return options


def check_created(kind: Kind, made: object) -> None:
    """Check that what a create hook returned is of the kind's contract, and declares what the contract asks.

    Args:
        kind: The component's kind.
        made: What the hook returned.

    Raises:
        DefectError: It is not.
    """
    module, _, name = kind.contract.partition(":")
    contract = getattr(import_module(module), name)
    if not isinstance(made, contract):
        raise DefectError(f"{kind.create_hook} must return an instance of {module}.{name}, but returned {_brief(made)}")
    if check := _DECLARATIONS.get(kind.name):
        check(made)


def _check_schema(options: type) -> None:
    try:
        msgspec.json.schema(options)
    except Exception as error:
        raise DefectError(f"{options.__qualname__} has a field that JSON Schema cannot describe: {error}") from error
    if any(_is_required(field) for field in dataclasses.fields(options)):
        return
    try:
        msgspec.convert(msgspec.to_builtins(options()), options)
    except Exception as error:
        raise DefectError(f"the defaults of {options.__qualname__} break its own ranges: {error}") from error


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _check_pyramid(encoder: Any) -> None:
    """Channels and strides of an encoder; that they are true is for a forward pass to show."""
    channels, strides = _counts(encoder, "channels"), _counts(encoder, "strides")
    if len(channels) != len(strides):
        raise DefectError(f"channels {channels} and strides {strides} must have one number for each feature")
    if any(stride & (stride - 1) for stride in strides) or sorted(set(strides)) != list(strides):
        raise DefectError(f"strides must be growing powers of two, finest first, but are {strides}")


def _check_out_channels(fusion: Any) -> None:
    declared = getattr(fusion, "out_channels", None)
    if not _is_count(declared):
        raise DefectError(f"out_channels must be a whole number of at least 1, but is {declared!r}")


def _counts(made: Any, attribute: str) -> tuple[int, ...]:
    declared = getattr(made, attribute, None)
    if not (isinstance(declared, tuple | list) and declared and all(map(_is_count, declared))):
        raise DefectError(f"{attribute} must be a tuple of whole numbers of at least 1, but is {declared!r}")
    return tuple(declared)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _brief(made: object) -> str:
    return "None" if made is None else f"a {type(made).__module__}.{type(made).__qualname__}"


_DECLARATIONS: dict[str, Callable[[Any], None]] = {"encoder": _check_pyramid, "fusion": _check_out_channels}
