"""Pixels from image files and back."""
