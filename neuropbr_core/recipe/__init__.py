"""Recipes: YAML with places, a JSON Schema composed from components, a frozen and typed `Recipe`. Imports no torch.

loading.py     load_recipe and its kin: the way from a file to a `Recipe`
merge.py       extends, overrides and defaults -> one tree; where components are named in it
check.py       the tree -> problems, or typed sections and components
schema.py      the JSON Schema that `check` and editors use
sections.py    the keys that the core reads: types, ranges, defaults, descriptions
rules.py       what sections demand of each other
english.py     a schema in words
yaml_tree.py   YAML text <-> nodes with places
"""

from neuropbr_core.recipe.loading import (
    Resolved,
    dump_recipe,
    load_entries,
    load_recipe,
    resolve_recipe,
    teachers_recipe,
)
from neuropbr_core.recipe.merge import Override
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry.chosen import Chosen

__all__ = [
    "Chosen",
    "Override",
    "Recipe",
    "Resolved",
    "dump_recipe",
    "load_entries",
    "load_recipe",
    "resolve_recipe",
    "teachers_recipe",
]
