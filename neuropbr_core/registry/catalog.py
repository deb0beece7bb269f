"""The registry: what is installed, what a name means, and one component at a time on demand."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import msgspec

from neuropbr_core.errors import PluginBlocked, PluginBroken, PluginCollision, PluginNotFound
from neuropbr_core.kinds import KINDS
from neuropbr_core.plugin import Needs
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.component import Component, DefectError, load
from neuropbr_core.registry.installed import BLOCK_VARIABLE, Block, Entry, normalized, requested_blocks, scan
from neuropbr_core.suggestions import did_you_mean


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

    @cached_property
    def _all(self) -> tuple[Entry, ...]:
        return scan()

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
            if self.blocked_by(entry):
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
        """Components of other distributions with the same kind and name that are not blocked."""
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
            PluginCollision: Several distributions offer it.
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
            return self._load(entry).create(options, context)

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
        raise PluginBroken(
            f"{entry} is broken: {error}. It is the entry point `{entry.name} = {entry.value}` in group "
            f"{entry.group}. Upgrade or uninstall {entry.distribution}, or block the component with `--block "
            f"{entry.qualified}` or in {BLOCK_VARIABLE}; `neuropbr plugin show {entry.kind}/{entry.qualified}` shows "
            f"what it declares"
        ) from error
