"""What the Tab key completes: recipes that ship, recipe files, and components."""

import click
from click.shell_completion import CompletionItem, FishComplete, add_completion_class


class RecipeName(click.ParamType[str]):
    """A recipe file, or `neuropbr:NAME` for one that ships."""

    name = "recipe"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The shipped recipes that begin so, and the shell's own completion of files."""
        from neuropbr_core.recipe.reference import shipped_recipes

        # First: click's script for bash forgets what came before files, and shows files where nothing else fits.
        items = [CompletionItem(incomplete, type="file")]
        for reference, description in shipped_recipes():
            # The part behind the colon too: bash takes a colon for the end of a word.
            if reference.startswith(incomplete) or reference.partition(":")[2].startswith(incomplete):
                items.append(CompletionItem(reference, help=description))
        return items


class ComponentName(click.ParamType[str]):
    """A component as `KIND/NAME`."""

    name = "component"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The installed components that begin so; no module of a plugin is imported."""
        from neuropbr_core.kinds import KINDS
        from neuropbr_core.registry.catalog import default_registry

        items = []
        for kind in KINDS:
            for name in default_registry().names(kind):
                if f"{kind}/{name}".startswith(incomplete):
                    items.append(CompletionItem(f"{kind}/{name}"))
        return items


class ComponentNames(click.ParamType[str]):
    """Components of one kind, separated by commas.

    Args:
        kind: The kind.
    """

    name = "components"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The installed components of the kind that begin as the last name does."""
        from neuropbr_core.registry.catalog import default_registry

        earlier, comma, last = incomplete.rpartition(",")
        items = []
        for name in default_registry().names(self.kind):
            if name.startswith(last):
                items.append(CompletionItem(f"{earlier}{comma}{name}"))
        return items


class WholeFishComplete(FishComplete):
    """Completion for fish, of values and descriptions with commas too."""

    # click's own takes what is behind the second comma for nothing.
    source_template = FishComplete.source_template.replace('string split ","', 'string split -m 1 ","')


add_completion_class(WholeFishComplete)
