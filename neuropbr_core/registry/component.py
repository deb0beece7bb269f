"""One component: its thin module is imported, its hooks are validated, and what they return is checked.

Each module goes into a plugin manager of its own. A manager that many share is spoilt by one offender: its
`check_pending` stops at the first fault, and a component that was registered halfway stays. A fresh manager costs less
than a millisecond.
"""

import dataclasses
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import msgspec
import pluggy

from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.plugin import PROJECT, SUPPORTED_API, Needs

if TYPE_CHECKING:
    from neuropbr_core.registry.installed import Entry


class DefectError(Exception):
    """A component breaks its contract; the message says how."""


@dataclass(frozen=True)
class Component:
    """A component whose thin module is loaded and keeps to its kind's hooks.

    Attributes:
        kind: Its kind.
        manager: The plugin manager that holds it alone.
        options: Dataclass of its recipe options.
    """

    kind: Kind
    manager: pluggy.PluginManager
    options: type

    def create(self, options: Any, context: dict[str, Any]) -> Any:
        """Build an instance and check it against the contract.

        Args:
            options: Instance of `self.options`.
            context: What the kind's create hook takes beside options, by name.

        Raises:
            TypeError: `options` or the names in `context` are not what the hook takes.
            NeuroPBRError: The component refuses, for a reason that the user can mend (missing weights, for example).
            DefectError: The component raised something else, or what it built breaks the contract.
        """
        hook = self.kind.create_hook
        if not isinstance(options, self.options):
            raise TypeError(f"options must be a {self.options.__qualname__}, not {options!r}")
        # pluggy drops arguments that a specification lacks without a word, and so hides a caller's misspelling.
        expected = set(_parameters(self.manager, hook)) - {"options"}
        if expected != set(context):
            raise TypeError(f"{hook} takes {sorted(expected)} beside options, not {sorted(context)}")
        try:
            instance = getattr(self.manager.hook, hook)(options=options, **context)
        # An error that the user can mend keeps its text, and must not be reported as a defect of the component.
        except (NeuroPBRError, KeyboardInterrupt):
            raise
        except BaseException as error:  # plugins may even raise SystemExit
            raise DefectError(f"{hook} raised {describe(error)}") from error
        _check_created(self.kind, instance)
        return instance

    def needs(self, options: Any) -> Needs:
        """What a component with these options must be given; nothing for one without the hook.

        Raises:
            DefectError: The hook raised, or returned something else.
        """
        # The hook is optional: most components need nothing beyond what their kind receives.
        name = self.kind.needs_hook
        hook = getattr(self.manager.hook, name, None)
        if hook is None or not hook.get_hookimpls():
            return Needs()
        try:
            needs = hook(options=options)
        except Exception as error:
            raise DefectError(f"{name} raised {describe(error)}") from error
        if not isinstance(needs, Needs):
            raise DefectError(f"{name} must return neuropbr_core.plugin.Needs, but returned {needs!r}")
        return needs


def load(entry: "Entry") -> Component:
    """Import a component's thin module, validate its hooks and fetch its options type.

    Raises:
        DefectError: It does not import, is for another API, breaks the kind's hooks, or its options are unusable.
    """
    kind = KINDS[entry.kind]
    # The version is read from the source first: a module that was written for another API may not import at all.
    thin = entry.thin_module()
    if thin is not None and thin.api is not None:
        _check_api(thin.api)
    try:
        plugin: object = EntryPoint(entry.name, entry.value, entry.group).load()
        api = getattr(plugin, "NEUROPBR_API", None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise DefectError(f"its module does not import: {describe(error)}") from error
    # What the module states when it runs counts: its source may compute the number, or not be there.
    _check_api(api)
    manager = _register(kind, entry.qualified, plugin)
    try:
        options = getattr(manager.hook, kind.options_hook)()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise DefectError(f"{kind.options_hook} raised {describe(error)}") from error
    return Component(kind, manager, _checked_options(kind, options))


def describe(error: BaseException) -> str:
    """An exception on one line, for use inside a message."""
    # Messages of libraries may have several lines, which would tear the listing that quotes them apart.
    text = " ".join(str(error).split())
    if not text:
        return type(error).__name__
    return f"{type(error).__name__}: {text}"


def _check_api(api: object) -> None:
    supported = ", ".join(map(str, SUPPORTED_API))
    if api is None:
        raise DefectError(f"its module does not state NEUROPBR_API; this neuropbr supports {supported}")
    # `True in (1,)` holds, so the type is compared too.
    if type(api) is not int or api not in SUPPORTED_API:
        raise DefectError(
            f"it is written for plugin API {api!r}, but this neuropbr supports {supported}; upgrade whichever of the "
            f"two is older"
        )


def _register(kind: Kind, name: str, plugin: object) -> pluggy.PluginManager:
    """Put the plugin into a fresh manager and validate its hooks against the kind's specification."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(kind.spec)
    hooks = (kind.options_hook, kind.create_hook)
    # Every message lists the hooks as they should be, so that an author need not look them up.
    signatures = ", ".join(f"{hook}({', '.join(_parameters(manager, hook))})" for hook in hooks)
    try:
        manager.register(plugin, name=name)
        manager.check_pending()  # hooks that the specification does not have, such as misspelt ones
    except Exception as error:
        raise DefectError(f"{describe(error)}; hooks of this kind: {signatures}") from error
    # pluggy takes a missing decorator for a function that is no hook, and a wrapper alone for an implementation.
    for hook in hooks:
        if all(impl.wrapper or impl.hookwrapper for impl in getattr(manager.hook, hook).get_hookimpls()):
            if callable(getattr(plugin, hook, None)):
                raise DefectError(f"its {hook} is not a hook: put @hookimpl from neuropbr_core.plugin on it")
            raise DefectError(f"it has no hook {hook}; hooks of this kind: {signatures}")
    return manager


def _parameters(manager: pluggy.PluginManager, hook: str) -> tuple[str, ...]:
    """Names of the parameters that a hook's specification has."""
    spec = getattr(manager.hook, hook).spec
    return tuple(spec.argnames)


def _checked_options(kind: Kind, options: object) -> type:
    """Check what an options hook returned.

    Returns:
        `options`: a frozen dataclass whose fields leave the core's own keys alone, which has a JSON Schema, and whose
        defaults keep to it.

    Raises:
        DefectError: It is something else.
    """
    hook = kind.options_hook
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        raise DefectError(f"{hook} must return a frozen dataclass type, but returned {options!r}")
    name = options.__qualname__
    if not options.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise DefectError(f"{hook} returned {name}, which must be a frozen dataclass (frozen=True)")
    # An entry of a recipe mixes the component's options with keys that the core reads itself.
    reserved = ["use"]
    for field in dataclasses.fields(kind.entry_options):
        reserved.append(field.name)
    clashes = []
    for field in dataclasses.fields(options):
        if field.name in reserved:
            clashes.append(field.name)
    if clashes:
        raise DefectError(
            f"option {', '.join(map(repr, sorted(clashes)))} of {name} must have another name: "
            f"recipes reserve {', '.join(sorted(reserved))}"
        )
    # Recipes are checked by a schema, so every type must have one; `Any` has, a class of the plugin's own has not.
    try:
        msgspec.json.schema(options)
    except Exception as error:
        raise DefectError(f"{name} has a field that JSON Schema cannot describe: {error}") from error
    for field in dataclasses.fields(options):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.init and not has_default:
            return options  # there is no instance of defaults alone that could be checked
    # A dataclass does not check its defaults, and a recipe that leaves them out would pass with them.
    try:
        msgspec.convert(msgspec.to_builtins(options()), options)
    except Exception as error:
        raise DefectError(f"the defaults of {name} break its own ranges: {error}") from error
    return options


def _check_created(kind: Kind, instance: object) -> None:
    """Check that what a create hook returned is of the kind's contract, and declares what the contract asks.

    Raises:
        DefectError: It is not.
    """
    # The contract's module may import torch, so it is imported only now that something is created.
    module, _, name = kind.contract.partition(":")
    contract = getattr(import_module(module), name)
    if not isinstance(instance, contract):
        returned = "None"
        if instance is not None:
            returned = f"a {type(instance).__module__}.{type(instance).__qualname__}"
        raise DefectError(f"{kind.create_hook} must return an instance of {module}.{name}, but returned {returned}")
    if kind.name == "encoder":
        _check_pyramid(instance)
    elif kind.name == "fusion":
        channels = getattr(instance, "out_channels", None)
        if not _is_count(channels):
            raise DefectError(f"out_channels must be a whole number of at least 1, but is {channels!r}")


def _check_pyramid(encoder: object) -> None:
    """Check the channels and strides that an encoder declares; only a forward pass can show whether they are true."""
    counts = {}
    for attribute in ("channels", "strides"):
        declared = getattr(encoder, attribute, None)
        if not (isinstance(declared, tuple | list) and declared and all(map(_is_count, declared))):
            raise DefectError(f"{attribute} must be a tuple of whole numbers of at least 1, but is {declared!r}")
        counts[attribute] = tuple(declared)
    channels = counts["channels"]
    strides = counts["strides"]
    if len(channels) != len(strides):
        raise DefectError(f"channels {channels} and strides {strides} must have one number for each feature")
    # A power of two has a single bit, which `stride & (stride - 1)` clears.
    if any(stride & (stride - 1) for stride in strides) or sorted(set(strides)) != list(strides):
        raise DefectError(f"strides must be growing powers of two, finest first, but are {strides}")


def _is_count(value: object) -> bool:
    # True is an integer in Python, and would count as 1 channel.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
