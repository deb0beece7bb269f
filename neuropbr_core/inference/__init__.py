"""Inference: views in, maps out."""

from neuropbr_core.inference.exported import ExportedGenerator, load_exported
from neuropbr_core.inference.predict import LoadedGenerator, load_generator
from neuropbr_core.inference.resample import resample_maps
from neuropbr_core.inference.views import ViewSet, read_capture, read_views, register_views
from neuropbr_core.inference.write import write_maps

__all__ = [
    "ExportedGenerator",
    "LoadedGenerator",
    "ViewSet",
    "load_exported",
    "load_generator",
    "read_capture",
    "read_views",
    "register_views",
    "resample_maps",
    "write_maps",
]
