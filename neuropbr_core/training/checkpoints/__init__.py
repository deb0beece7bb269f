"""Checkpoints: what a run saves, where, and how it continues from it."""
