"""Imports one thin module and puts it into a plugin manager of its own.

A manager that many share is spoilt by one offender: its `check_pending` stops at the first fault, and a component that
was registered halfway stays. A fresh one costs less than a millisecond.
"""

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import pluggy

from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.plugin import PROJECT, SUPPORTED_API, Needs
from neuropbr_core.registry.conformance import DefectError, check_created, check_options_type
from neuropbr_core.registry.entries import Entry
from neuropbr_core.registry.source import read_thin_module


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
            NeuroPBRError: The component refuses, for a reason of the user's (weights that are missing, for example).
            DefectError: The component raised something else, or what it built breaks the contract.
        """
        self._check_call(options, context)
        try:
            made = getattr(self.manager.hook, self.kind.create_hook)(options=options, **context)
        except (NeuroPBRError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise DefectError(f"{self.kind.create_hook} raised {describe(error)}") from error
        check_created(self.kind, made)
        return made

    def needs(self, options: Any) -> Needs:
        """What a component with these options must be given; nothing for one without the hook.

        Raises:
            DefectError: The hook raised, or returned something else.
        """
        hook = getattr(self.manager.hook, self.kind.needs_hook, None)
        if hook is None or not hook.get_hookimpls():
            return Needs()
        try:
            found = hook(options=options)
        except Exception as error:
            raise DefectError(f"{self.kind.needs_hook} raised {describe(error)}") from error
        if not isinstance(found, Needs):
            raise DefectError(f"{self.kind.needs_hook} must return neuropbr_core.plugin.Needs, but returned {found!r}")
        return found

    def _check_call(self, options: Any, context: dict[str, Any]) -> None:
        if not isinstance(options, self.options):
            raise TypeError(f"options must be a {self.options.__qualname__}, not {options!r}")
        wanted = set(_parameters(self.manager, self.kind.create_hook)) - {"options"}
        if wanted != set(context):
            raise TypeError(f"{self.kind.create_hook} takes {sorted(wanted)} beside options, not {sorted(context)}")


def load(entry: Entry) -> Component:
    """Import a component's thin module, validate its hooks and fetch its options type.

    Raises:
        DefectError: It does not import, is for another API, breaks the kind's hooks, or its options are unusable.
    """
    kind = KINDS[entry.kind]
    manager = _register(kind, entry.qualified, _import(entry))
    try:
        options = getattr(manager.hook, kind.options_hook)()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise DefectError(f"{kind.options_hook} raised {describe(error)}") from error
    return Component(kind, manager, check_options_type(kind, options))


def describe(error: BaseException) -> str:
    """An exception on one line, for use inside a message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _import(entry: Entry) -> object:
    """The thin module; its API version is read from the source first, as a module for another API may not import."""
    stated = read_thin_module(entry.module)
    if stated is not None and stated.api is not None:
        _check_api(stated.api)
    try:
        plugin: object = EntryPoint(entry.name, entry.value, entry.group).load()
        api = getattr(plugin, "NEUROPBR_API", None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise DefectError(f"its module does not import: {describe(error)}") from error
    _check_api(api)
    return plugin


def _check_api(api: object) -> None:
    supported = ", ".join(map(str, SUPPORTED_API))
    if api is None:
        raise DefectError(f"its module does not state NEUROPBR_API; this neuropbr supports {supported}")
    if type(api) is not int or api not in SUPPORTED_API:
        raise DefectError(
            f"it is written for plugin API {api!r}, but this neuropbr supports {supported}; upgrade the one that is "
            f"behind"
        )


def _register(kind: Kind, name: str, plugin: object) -> pluggy.PluginManager:
    """Put the plugin into a fresh manager and validate its hooks against the kind's specification."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(kind.spec)
    try:
        manager.register(plugin, name=name)
        manager.check_pending()
    except Exception as error:
        raise DefectError(f"{describe(error)}; hooks of this kind: {_signatures(kind, manager)}") from error
    for hook in (kind.options_hook, kind.create_hook):
        if all(impl.wrapper or impl.hookwrapper for impl in getattr(manager.hook, hook).get_hookimpls()):
            raise DefectError(_missing(kind, manager, hook, plugin))
    return manager


def _missing(kind: Kind, manager: pluggy.PluginManager, hook: str, plugin: object) -> str:
    if callable(getattr(plugin, hook, None)):
        return f"its {hook} is not a hook: put @hookimpl from neuropbr_core.plugin on it"
    return f"it has no hook {hook}; hooks of this kind: {_signatures(kind, manager)}"


def _signatures(kind: Kind, manager: pluggy.PluginManager) -> str:
    hooks = (kind.options_hook, kind.create_hook)
    return ", ".join(f"{hook}({', '.join(_parameters(manager, hook))})" for hook in hooks)


def _parameters(manager: pluggy.PluginManager, hook: str) -> tuple[str, ...]:
    """Names of the parameters that a hook's specification has."""
    spec = getattr(manager.hook, hook).spec
    return tuple(spec.argnames)
