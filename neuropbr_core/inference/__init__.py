"""Inference: views in, maps out."""

from neuropbr_core.inference.predict import LoadedGenerator, load_generator
from neuropbr_core.inference.views import ViewSet, read_views, register_views
from neuropbr_core.inference.write import write_maps

__all__ = ["LoadedGenerator", "ViewSet", "load_generator", "read_views", "register_views", "write_maps"]
