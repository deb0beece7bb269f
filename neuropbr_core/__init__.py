"""NeuroPBR: photos of a flat material in, PBR texture maps out; every part of the network is a plugin."""

__version__ = "0.1.0"
