"""What is installed here: the schema of all components, for editors, and the recipes that ship."""

from typing import TYPE_CHECKING

from neuropbr_core.errors import PluginError
from neuropbr_core.kinds import KINDS
from neuropbr_core.recipe.schema import Choice, Schema, compose, options_schema
from neuropbr_core.recipe.source import parse, read_file
from neuropbr_core.shipped import recipe_names, resolve

if TYPE_CHECKING:
    from neuropbr_core.registry import Registry


def editor_schema(registry: "Registry") -> tuple[Schema, list[PluginError]]:
    """The schema with every component that loads, by all the names that recipes may use for it.

    Returns:
        The schema, and the errors of components that do not load and are left out.
    """
    choices: list[Choice] = []
    broken: list[PluginError] = []
    for kind in KINDS.values():
        for name in registry.names(kind.name):
            try:
                choice = Choice(kind.name, name, registry.options(kind.name, name))
                options_schema(choice)
            except PluginError as error:
                broken.append(error)
                continue
            qualified = registry.find(kind.name, name).qualified
            choices += [choice] if qualified == name else [choice, Choice(kind.name, qualified, choice.options)]
    return compose(choices, closed=True), broken


def shipped_recipes() -> list[tuple[str, str]]:
    """Names of the recipes that ship, as `neuropbr:NAME`, each with its description."""
    return [(f"neuropbr:{name}", _description(name)) for name in recipe_names()]


def _description(name: str) -> str:
    path = resolve(f"neuropbr:{name}")
    root, _ = parse(read_file(path, str(path)), str(path))
    node = root.mapping(()).get("description")
    return str(node.value) if node else ""
