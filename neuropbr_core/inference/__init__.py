"""Inference: views in, maps out."""

from neuropbr_core.inference.exported import ExportedGenerator, load_exported
from neuropbr_core.inference.predict import LoadedGenerator, load_generator
from neuropbr_core.inference.resample import resample_maps
from neuropbr_core.inference.samples import DatasetSample, read_sample
from neuropbr_core.inference.views import ViewSet, read_capture, read_views, register_views
from neuropbr_core.inference.write import write_maps, write_views

__all__ = [
    "DatasetSample",
    "ExportedGenerator",
    "LoadedGenerator",
    "ViewSet",
    "load_exported",
    "load_generator",
    "read_capture",
    "read_sample",
    "read_views",
    "register_views",
    "resample_maps",
    "write_maps",
    "write_views",
]
