"""Inference: views in, maps out.

views.py          a folder of photos, with their cameras -> ViewSet
samples.py        a sample of a run's dataset -> ViewSet
predict.py        a run or an exported file -> a model that turns a ViewSet into maps
write.py          maps, resampled where asked for -> PNG files
verification.py   views to verify an export on, and the model that it was exported from
"""

from neuropbr_core.inference.predict import ExportedGenerator, LoadedGenerator, load_exported, load_generator
from neuropbr_core.inference.samples import DatasetSample, read_sample
from neuropbr_core.inference.views import ViewSet, read_capture, read_views, register_views
from neuropbr_core.inference.write import resample_maps, write_maps, write_views

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
