"""Checks of a dataset that decode every image, and the quarantine for what they find."""
