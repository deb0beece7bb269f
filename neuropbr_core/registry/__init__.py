"""Finds components through entry points and loads the ones that are named, each on its own.

    installed.py    metadata of distributions -> Entry; nothing is imported
    component.py    one Entry -> its thin module, imported and validated by pluggy -> options dataclass, instance
    catalog.py      Registry: a name -> its Entry, with errors for unknown, blocked, ambiguous and broken components
    chosen.py       Chosen: what a recipe's entry becomes; it builds itself

A component is imported only when somebody names it, and a broken one disturbs no other.
"""

from neuropbr_core.registry.catalog import Registry, default_registry, set_default_registry
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.installed import Entry

__all__ = ["Chosen", "Entry", "Registry", "default_registry", "set_default_registry"]
