"""Finds components through entry points and loads the ones that are named, each on its own.

    scan -> Entry (metadata only) -> find -> load one module -> pluggy -> options dataclass -> instance

Nothing is imported before it is named, and what is broken is broken alone.
"""

from neuropbr_core.registry.catalog import Registry, default_registry, set_default_registry
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.registry.entries import Entry

__all__ = ["Chosen", "Entry", "Registry", "default_registry", "set_default_registry"]
