"""Recipes: YAML with places, a JSON Schema composed from components, a frozen and typed `Recipe`. Imports no torch."""

from neuropbr_core.recipe.loading import Resolved, dump_recipe, load_recipe, resolve_recipe
from neuropbr_core.recipe.overrides import Override
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry import Chosen

__all__ = ["Chosen", "Override", "Recipe", "Resolved", "dump_recipe", "load_recipe", "resolve_recipe"]
