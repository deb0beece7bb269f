"""The generator and its weights on disk. The decoder lives here: it is no kind of component."""

from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec, build_generator, parameter_count
from neuropbr_core.model.weights import load_model, save_model, weights_digest

__all__ = ["Generator", "ModelSpec", "build_generator", "load_model", "parameter_count", "save_model", "weights_digest"]
