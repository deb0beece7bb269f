"""Datasets that ship with the core; each is a component like any other, found through its entry point."""
