"""What a recipe's entry becomes: a component with its options, which builds itself and answers for its faults."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

# The registry makes these objects, so its module imports this one.
if TYPE_CHECKING:
    from neuropbr_core.plugin import Needs
    from neuropbr_core.registry.catalog import Registry
    from neuropbr_core.registry.installed import Entry


@dataclass(frozen=True)
class Chosen:
    """A component that a recipe names, with its options as the component's own dataclass.

    Two choices are equal when they name the same component with the same options, whichever registry offers it.

    Attributes:
        kind: Kind of component.
        name: Instance name: the key in a mapping, or the slot's name.
        use: `distribution:entry point`, always qualified in a checked recipe.
        options: The component's options.
        entry: Keys of the recipe's entry that the core reads itself (`kinds.Kind.entry_options`).
        registry: The registry that offers the component and builds it.
    """

    kind: str
    name: str
    use: str
    options: Any
    entry: Any
    registry: "Registry" = field(compare=False, repr=False)

    def create(self, **context: Any) -> Any:
        """Build the component and check it against its kind's contract.

        Args:
            **context: What the kind's create hook takes beside options, such as `in_channels=96`.

        Returns:
            An instance of the kind's contract class.

        Raises:
            PluginError: The component does not load, does not build, or what it builds breaks the contract.
            NeuroPBRError: The component refuses for a reason that the user can mend.
            TypeError: `context` is not what the component takes.
        """
        return self.registry.create(self.kind, self.use, self.options, **context)

    @property
    def needs(self) -> "Needs":
        """What the component must be given, beyond what every component of its kind receives."""
        return self.registry.needs(self.kind, self.use, self.options)

    @property
    def provenance(self) -> dict[str, str]:
        """Kind, name, distribution and version, as plain data for the records of a run."""
        return self.declared.provenance

    @property
    def declared(self) -> "Entry":
        """The component as its distribution declares it, with the distribution's version."""
        return self.registry.find(self.kind, self.use)
