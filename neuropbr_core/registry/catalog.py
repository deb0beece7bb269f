"""The registry: what a name means, and one component at a time, loaded and built on demand.

`Registry` finds a component by its name, `load` imports its thin module and has pluggy validate the hooks, `Component`
builds instances and checks what they declare.

Each module goes into a plugin manager of its own. A manager that many share is spoilt by one offender: its
`check_pending` stops at the first fault, and a component that was registered halfway stays. A fresh manager costs less
than a millisecond.
"""

import ast
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pluggy

from neuropbr_core.errors import (
    NeuroPBRError,
    PluginBlocked,
    PluginBroken,
    PluginCollision,
    PluginNotFound,
)
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.plugin import PROJECT, SUPPORTED_API, Needs
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.groups import unknown_groups
from neuropbr_core.registry.guarding import guard, noting_interrupts
from neuropbr_core.registry.installed import (
    BLOCK_VARIABLE,
    FILE_DISTRIBUTION,
    PARSE_ERRORS,
    Block,
    Entry,
    ThinModule,
    file_entry,
    is_there,
    read_source,
    requested_blocks,
    scan,
)
from neuropbr_core.registry.known import who_offers
from neuropbr_core.registry.names import normalized
from neuropbr_core.registry.options import belongings, undescribed_field
from neuropbr_core.reporting import reporter
from neuropbr_core.shown import describe, shortened
from neuropbr_core.suggestions import did_you_mean

OWN_DISTRIBUTION = "neuropbr"
"""The distribution of NeuroPBR itself."""


class DefectError(Exception):
    """A component breaks its contract; the message says how."""


@dataclass(frozen=True)
class NoOptions:
    """Options of a component whose module has no options hook: none."""


@dataclass(frozen=True)
class Component:
    """A component whose thin module is loaded and keeps to its kind's hooks.

    Attributes:
        kind: Its kind.
        manager: The plugin manager that holds it alone.
        options: Dataclass of its recipe options; `NoOptions` for a component without options.
        api: Version of the plugin API that it is loaded with.
    """

    kind: Kind
    manager: pluggy.PluginManager
    options: type
    api: int

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
        # An error that the user can mend keeps its text, and must not be reported as a defect of the component.
        with _contained(f"{hook} raised", passing=NeuroPBRError):
            instance = getattr(self.manager.hook, hook)(options=options, **context)
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
        with _contained(f"{name} raised"):
            needs = hook(options=options)
        if not isinstance(needs, Needs):
            raise DefectError(f"{name} must return neuropbr_core.plugin.Needs, but returned {needs!r}")
        return needs


def load(entry: Entry) -> Component:
    """Import a component's thin module, validate its hooks and fetch its options type.

    Raises:
        DefectError: It does not import, is for another API, breaks the kind's hooks, or its options are unusable.
    """
    kind = KINDS[entry.kind]
    # The source is read first: a module that was written for another API may not import at all.
    check_source(entry)
    with _contained("its module does not import:"):
        plugin = entry.load()
        api = getattr(plugin, "NEUROPBR_API", None)
    # What the module states when it runs counts: its source may compute the number, or not be there.
    common = _common_api(api)
    manager = _register(kind, entry.qualified, plugin)
    hook = getattr(manager.hook, kind.options_hook)
    options: object = NoOptions
    if hook.get_hookimpls():
        with _contained(f"{kind.options_hook} raised"):
            options = hook()
    return Component(kind, manager, _checked_options(kind, options), common)


def check_source(entry: Entry) -> ThinModule | None:
    """Check a component as far as its source tells; nothing is imported.

    Returns:
        What the source states; None for a module without source, which tells nothing before it is imported.

    Raises:
        DefectError: Its name cannot be written, its module is not there or is no Python, or what the source states is
            for another API or malformed.
    """
    if not entry.is_well_named:
        raise DefectError("its name has characters that no recipe can write; allowed are letters, digits and . _ -")
    path = entry.source()
    if path is None:
        if not is_there(entry.module):
            raise DefectError(f"its module {entry.module} is not there")
        return None
    thin = read_source(path)
    if thin is None:
        try:
            ast.parse(path.read_bytes())
        except (OSError, *PARSE_ERRORS) as error:
            raise DefectError(f"its module does not import: {describe(error)}") from error
        return None
    if thin.api is not None:
        _common_api(thin.api)
    requires = thin.requires
    is_sound = isinstance(requires, dict) and all(isinstance(text, str) for text in (*requires, *requires.values()))
    if requires is not None and not is_sound:
        raise DefectError(
            f"NEUROPBR_REQUIRES must be a dictionary from modules to what pip installs, such as "
            f'{{"onnx": "neuropbr[onnx]"}}, but is {shortened(repr(thin.requires))}'
        )
    return thin


def packages_needed(thin: ThinModule | None) -> dict[str, list[str]]:
    """What has to be installed before a component works: what pip installs, with the modules that are missing.

    Args:
        thin: What its source states, as `check_source` returns it.
    """
    needed: dict[str, list[str]] = {}
    if thin is not None and isinstance(thin.requires, dict):
        for module, package in thin.requires.items():
            if not is_there(module):
                needed.setdefault(package, []).append(module)
    return needed


@contextmanager
def _contained(problem: str, passing: type[BaseException] | tuple[()] = ()) -> Iterator[None]:
    """Turn everything that a plugin's code raises, `SystemExit` and `KeyboardInterrupt` included, into a defect.

    Args:
        problem: The beginning of the message, before what was raised.
        passing: Errors that go through as they are.
    """
    with noting_interrupts() as pressed:
        try:
            yield
        except BaseException as error:
            if isinstance(error, passing) or (pressed and isinstance(error, KeyboardInterrupt)):
                raise
            raise DefectError(f"{problem} {describe(error)}") from error


def _common_api(api: object) -> int:
    """The newest version of the plugin API that a module and this core both know.

    Args:
        api: What the module states: a version, or a tuple of those that it was written for.

    Raises:
        DefectError: There is none, or the module states something else.
    """
    supported = ", ".join(map(str, SUPPORTED_API))
    if api is None:
        raise DefectError(f"its module does not state NEUROPBR_API; this neuropbr supports {supported}")
    versions = (api,)
    if isinstance(api, tuple):
        versions = api
    # `True in (1,)` holds, so the type is compared too.
    common = [version for version in versions if type(version) is int and version in SUPPORTED_API]
    if not common:
        raise DefectError(
            f"it is written for plugin API {api!r}, but this neuropbr supports {supported}; upgrade whichever of the "
            f"two is older"
        )
    return max(common)


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
        # A component may have no options; a function of that name without decorator is a mistake all the same.
        if hook == kind.options_hook and not hasattr(plugin, hook):
            continue
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
    for option in dataclasses.fields(kind.entry_options):
        reserved.append(option.name)
    clashes = []
    for option in dataclasses.fields(options):
        if option.name in reserved:
            clashes.append(option.name)
    if clashes:
        raise DefectError(
            f"option {', '.join(map(repr, sorted(clashes)))} of {name} must have another name: "
            f"recipes reserve {', '.join(sorted(reserved))}"
        )
    # Recipes are checked by a schema, so every type must have one; `Any` has, a class of the plugin's own has not.
    try:
        msgspec.json.schema(options)
    except Exception as error:
        raise DefectError(
            f"{name} has a field that JSON Schema cannot describe, {undescribed_field(options)}: {describe(error)}"
        ) from error
    known = [option.name for option in dataclasses.fields(options)]
    for option_name, owner in belongings(options).items():
        # Merging recipes looks the owner's value up; a misspelt one has none.
        if owner not in known:
            raise DefectError(
                f"option {option_name!r} of {name} belongs to {owner!r}, which is no option of it."
                f"{did_you_mean(str(owner), known)} Options: {', '.join(known)}"
            )
    for option in dataclasses.fields(options):
        has_default = option.default is not dataclasses.MISSING or option.default_factory is not dataclasses.MISSING
        if option.init and not has_default:
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
    elif kind.name == "loss":
        _check_loss(instance)
    elif kind.name == "exporter":
        _check_exporter(instance)
    elif kind.name == "packager":
        _check_packager(instance)


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


def _check_loss(loss: Any) -> None:
    """Check what a loss says about its place in the objective."""
    if not isinstance(loss.reconstruction, bool):
        raise DefectError(f"reconstruction must be True or False, but is {loss.reconstruction!r}")
    if isinstance(loss.share, bool) or not isinstance(loss.share, int | float) or not 0 <= loss.share <= 1:
        raise DefectError(f"share must be a number from 0 to 1, but is {loss.share!r}")
    if loss.fused_by is not None and not isinstance(loss.fused_by, type):
        raise DefectError(f"fused_by must be a class or None, but is {loss.fused_by!r}")


def _check_exporter(exporter: Any) -> None:
    """Check what an exporter says about its files."""
    # The suffix becomes a part of a file's name, and must not lead to another folder.
    if not isinstance(exporter.suffix, str) or re.fullmatch(r"(\.[A-Za-z0-9_-]+)*", exporter.suffix) is None:
        raise DefectError(f"suffix must be a file's suffix such as '.onnx', but is {exporter.suffix!r}")
    if not isinstance(exporter.precision, str):
        raise DefectError(f"precision must be a text, but is {exporter.precision!r}")
    if exporter.view_bits is not None and not _is_count(exporter.view_bits):
        raise DefectError(f"view_bits must be a number of bits or None, but is {exporter.view_bits!r}")


def _check_packager(packager: Any) -> None:
    """Check which depths and conventions a packager offers; the first of each is its default."""
    for attribute, allowed in (("depths", (8, 16, "exr")), ("conventions", ("opengl", "directx"))):
        offered = getattr(packager, attribute)
        if not (isinstance(offered, tuple | list) and offered and all(choice in allowed for choice in offered)):
            known = ", ".join(map(str, allowed))
            raise DefectError(f"{attribute} must be a tuple of one or more of {known}, but is {offered!r}")


def _is_count(value: object) -> bool:
    # True is an integer in Python, and would count as 1 channel.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


class Registry:
    """The components of this environment.

    Metadata is scanned once, on first use; a component's module is imported when its options or an instance are asked
    for, and then alone.

    Args:
        block: Components to keep out beside those in `NEUROPBR_BLOCK_PLUGINS`: `name`, `kind/name` or
            `distribution:name`.
    """

    def __init__(self, block: Iterable[str] = ()) -> None:
        # Blocks are read once: a variable that changes later must not change what a checked recipe means.
        self._blocks = requested_blocks(block)
        self._loaded: dict[Entry, Component] = {}
        self._files: list[Entry] = []
        # Own components of which a warning said that others offer their names too.
        self._told: set[Entry] = set()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to have the same registry: it loads components itself."""
        return {"_blocks": self._blocks, "_loaded": {}, "_files": self._files, "_told": set()}

    @cached_property
    def _installed(self) -> tuple[Entry, ...]:
        return scan()

    @property
    def _all(self) -> tuple[Entry, ...]:
        return tuple(sorted([*self._installed, *self._files]))

    def add_file(self, path: Path) -> Entry:
        """Offer the component of a single Python file beside the installed ones; the file is not run yet.

        Args:
            path: The file. Its stem is the component's name, and `plugin-file` stands for its distribution.

        Returns:
            The component. A file that changed since it was added takes the place of its earlier version.

        Raises:
            PluginNotFound: It cannot be read.
            PluginBroken: It is no Python, or does not define the hooks of one kind.
            PluginCollision: Another file offers a component of that kind and name.
        """
        entry = file_entry(path)
        for other in self._files:
            if (other.kind, other.name) != (entry.kind, entry.name):
                continue
            if not _is_same_file(other.file, entry.file):
                raise PluginCollision(
                    f"{entry.kind}/{entry.name} is offered by {other.file} and by {entry.file}; rename one of the files"
                )
            self._files.remove(other)
            break
        self._files.append(entry)
        return entry

    def entries(self, kind: str | None = None) -> tuple[Entry, ...]:
        """All components that are declared, blocked and colliding ones too, sorted by kind and name.

        Args:
            kind: Only those of this kind.

        Raises:
            PluginNotFound: There is no such kind.
        """
        if kind is None:
            return self._all
        if kind not in KINDS:
            kinds = list(KINDS)
            near = did_you_mean(kind, kinds)
            raise PluginNotFound(f"there is no kind {kind!r} of component.{near} Kinds: {', '.join(kinds)}")
        # Unlike `names`, blocked ones are listed too: commands that show what is installed also show why it is idle.
        return tuple(entry for entry in self._all if entry.kind == kind)

    def names(self, kind: str) -> list[str]:
        """What a recipe may write for a kind: names, and `distribution:name` where a bare name is ambiguous."""
        names = []
        for entry in self.entries(kind):
            if self.blocked_by(entry) or not entry.is_well_named:
                continue
            # A bare name that two distributions offer is no name that a recipe may write.
            if self.rivals(entry):
                names.append(entry.qualified)
            else:
                names.append(entry.name)
        return sorted(names)

    def blocked_by(self, entry: Entry) -> Block | None:
        """The block that keeps a component out, if any."""
        for block in self._blocks:
            if block.matches(entry):
                return block
        return None

    def idle_blocks(self) -> tuple[Block, ...]:
        """Blocks that match no component: a misspelt name, most likely."""
        idle = []
        for block in self._blocks:
            if not any(map(block.matches, self._all)):
                idle.append(block)
        return tuple(idle)

    def rivals(self, entry: Entry) -> tuple[Entry, ...]:
        """Components of other distributions that make a component's bare name ambiguous.

        Blocked ones do not count, and NeuroPBR's own components keep their bare names whatever else is installed.
        """
        if entry.distribution == OWN_DISTRIBUTION:
            return ()
        rivals = []
        for other in self._all:
            same_name = (other.kind, other.name) == (entry.kind, entry.name)
            if same_name and other.distribution != entry.distribution and not self.blocked_by(other):
                rivals.append(other)
        return tuple(rivals)

    def find(self, kind: str, use: str) -> Entry:
        """Find the component that a name means; import nothing.

        Args:
            kind: Kind of component.
            use: `name` or `distribution:name`.

        Raises:
            PluginNotFound: No distribution offers it; the message has the nearest name.
            PluginCollision: Several distributions offer it, and NeuroPBR is none of them.
            PluginBlocked: It is blocked.
        """
        distribution, _, name = use.rpartition(":")
        offers = []
        for entry in self.entries(kind):
            if entry.name == name and normalized(distribution) in ("", entry.distribution):
                offers.append(entry)
        # An offer that is blocked is not counted as a collision, but its block is named when no other is left.
        usable = []
        for entry in offers:
            if not self.blocked_by(entry):
                usable.append(entry)
        if not offers:
            known = self.names(kind)
            candidates = known
            if distribution:
                # A qualified name is compared with qualified ones, even where a bare name would do.
                candidates = [entry.qualified for entry in self.entries(kind)]
            message = f"no installed distribution offers {kind}/{use}.{did_you_mean(use, candidates)} "
            if normalized(distribution) == FILE_DISTRIBUTION:
                message = (
                    f"{kind}/{use} is the component of a file {name}.py, which is not loaded; name it with `neuropbr "
                    f"--plugin FILE …`, or in the recipe's `plugins:`. "
                )
            # Only for packages that are not installed: the list may be older than what is.
            message += who_offers(kind, use)
            # A component in a misspelt group is in no listing, so its author finds out here.
            message += " ".join([*unknown_groups(), ""])
            # A right name under the wrong kind is a common slip, such as an encoder named as a fusion.
            elsewhere = []
            for entry in self._all:
                if entry.name == name and not self.blocked_by(entry):
                    elsewhere.append(f"{entry.kind}/{entry.qualified}")
            if elsewhere:
                message += f"There is {', '.join(elsewhere)}. "
            message += f"Known: {', '.join(known) or 'none'} (`neuropbr list-plugins --kind {kind}`)"
            raise PluginNotFound(message)
        if not usable:
            reasons = "; ".join(f"{entry} is blocked by {self.blocked_by(entry)}" for entry in offers)
            raise PluginBlocked(f"{reasons}. Remove the block, or use another component")
        if len(usable) > 1:
            for entry in usable:
                # Otherwise an installed package would break the shipped recipes, or change what they mean.
                if entry.distribution == OWN_DISTRIBUTION:
                    self._tell_of_namesakes(entry, usable)
                    return entry
            # Taking either would let an installation change what a recipe means, so the user decides.
            authors = []
            qualified = []
            for entry in usable:
                authors.append(f"{entry.distribution} {entry.version}")
                qualified.append(f"`{entry.qualified}`")
            raise PluginCollision(
                f"{kind}/{name} is offered by {' and by '.join(authors)}. Write {' or '.join(qualified)} in the "
                f"recipe, or block one, as with `--block {usable[0].qualified}` or in {BLOCK_VARIABLE}"
            )
        return usable[0]

    def _tell_of_namesakes(self, own: Entry, offers: Sequence[Entry]) -> None:
        """Warn once that a bare name means NeuroPBR's component although other distributions offer the name too."""
        if own in self._told:
            return
        self._told.add(own)
        others = " or ".join(f"`{entry.qualified}`" for entry in offers if entry != own)
        reporter().warning(f"{own.kind}/{own.name}: NeuroPBR's own is used; write {others} for another one")

    def options(self, kind: str, use: str) -> type:
        """Load one component and return the dataclass of its options.

        Raises:
            PluginError: As `find`; or `PluginBroken` when it does not load or its options are unusable.
        """
        entry = self.find(kind, use)
        with _blaming(entry):
            return self._load(entry).options

    def needs(self, kind: str, use: str, options: Any) -> Needs:
        """What a component with these options must be given, beyond what every component of its kind receives.

        Raises:
            PluginError: As `options`.
        """
        entry = self.find(kind, use)
        with _blaming(entry):
            return self._load(entry).needs(options)

    def create(self, kind: str, use: str, options: Any, **context: Any) -> Any:
        """Build a component and check it against its kind's contract.

        Args:
            kind: Kind of component.
            use: `name` or `distribution:name`.
            options: Instance of the component's options dataclass.
            **context: What the kind's create hook takes beside options, such as `in_channels`.

        Returns:
            An instance of the kind's contract class.

        Raises:
            PluginError: As `find`; or `PluginBroken` when the component does not load, does not build, or what it
                builds breaks the contract.
            NeuroPBRError: The component refuses for a reason that the user can mend.
            TypeError: `options` or `context` are not what the component takes.
        """
        entry = self.find(kind, use)
        with _blaming(entry):
            instance = self._load(entry).create(options, context)
        guard(instance, entry)
        return instance

    def choose(self, kind: str, use: str, options: Any = None, *, name: str | None = None, entry: Any = None) -> Chosen:
        """Choose a component outside a recipe.

        Args:
            kind: Kind of component.
            use: `name` or `distribution:name`.
            options: The component's options, as its own dataclass or as plain data; default: its defaults.
            name: Instance name; default: the kind.
            entry: Keys that the core reads from an entry; default: those of an empty entry.

        Raises:
            PluginError: As `options`.
            msgspec.ValidationError: Plain options do not fit the component.
        """
        cls = self.options(kind, use)
        # An instance of the component's own dataclass is taken as it is; plain data are checked.
        if not isinstance(options, cls):
            options = msgspec.convert(options or {}, cls)
        if entry is None:
            entry = KINDS[kind].entry_options()
        return Chosen(kind, name or kind, self.find(kind, use).qualified, options, entry, self)

    def defect(self, entry: Entry) -> str | None:
        """Load a component and say what is wrong with it, None when nothing is."""
        try:
            self._load(entry)
        except DefectError as error:
            return str(error)
        return None

    def _load(self, entry: Entry) -> Component:
        # Python imports a module once in a process, so its component is loaded once; a failed import is tried again.
        if entry not in self._loaded:
            self._loaded[entry] = load(entry)
        return self._loaded[entry]


def _is_same_file(one: str, other: str) -> bool:
    """Whether two paths name one file, also through links."""
    try:
        return one == other or os.path.samefile(one, other)  # noqa: PTH121 - of texts
    except OSError:  # one of them is gone
        return False


_default: Registry | None = None


def default_registry() -> Registry:
    """The registry of this process; made on first use."""
    global _default  # noqa: PLW0603 - one per process is what it is for
    if _default is None:
        _default = Registry()
    return _default


def set_default_registry(registry: Registry | None) -> None:
    """Replace the registry of this process; None makes the next use create a new one."""
    global _default  # noqa: PLW0603
    _default = registry


@contextmanager
def _blaming(entry: Entry) -> Iterator[None]:
    """Turn a defect into an error that names the distribution and the way out."""
    try:
        yield
    except DefectError as error:
        if entry.file:
            raise PluginBroken(f"{entry} is broken: {error}. It is the file {entry.file}") from error
        raise PluginBroken(
            f"{entry} is broken: {error}. It is the entry point `{entry.name} = {entry.value}` in group "
            f"{entry.group}. Upgrade or uninstall {entry.distribution}, or block the component with `--block "
            f"{entry.qualified}` or in {BLOCK_VARIABLE}; `neuropbr plugin show {entry.kind}/{entry.qualified}` shows "
            f"what it declares"
        ) from error
