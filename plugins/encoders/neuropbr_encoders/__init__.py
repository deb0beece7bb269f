"""Encoders: networks that turn one image into a feature pyramid."""
