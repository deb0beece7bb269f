"""Captures rendered from materials."""
