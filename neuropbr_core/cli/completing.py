"""What the Tab key completes: recipes that ship, recipe files, and components."""

import click
from click.shell_completion import CompletionItem


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

        items = []
        for reference, description in shipped_recipes():
            # The part behind the colon too: bash takes a colon for the end of a word.
            if reference.startswith(incomplete) or reference.partition(":")[2].startswith(incomplete):
                items.append(CompletionItem(reference, help=description))
        items.append(CompletionItem(incomplete, type="file"))
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


class ExporterNames(click.ParamType[str]):
    """Exporters, separated by commas."""

    name = "exporters"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The installed exporters that the last name begins with."""
        from neuropbr_core.registry.catalog import default_registry

        earlier, comma, last = incomplete.rpartition(",")
        items = []
        for name in default_registry().names("exporter"):
            if name.startswith(last):
                items.append(CompletionItem(f"{earlier}{comma}{name}"))
        return items
