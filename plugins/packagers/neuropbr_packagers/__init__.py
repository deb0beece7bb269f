"""Packagers that come with NeuroPBR; each is a component of its own, in a folder with a thin module."""
