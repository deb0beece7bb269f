"""Finds components through entry points and loads the ones that are named, each on its own.

    installed.py    metadata of distributions -> Entry; nothing is imported
    catalog.py      Registry: a name -> its Entry -> Component: the thin module, validated by pluggy -> an instance
    chosen.py       Chosen: what a recipe's entry becomes; it builds itself

A component is imported only when somebody names it, and a broken one disturbs no other.
"""

from neuropbr_core.registry.catalog import Registry, default_registry, set_default_registry
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.installed import Entry

__all__ = ["Chosen", "Entry", "Registry", "default_registry", "set_default_registry"]
