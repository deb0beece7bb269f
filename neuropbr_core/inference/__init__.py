"""Inference: views in, maps out.

views.py          a folder of photos with their cameras -> ViewSet
run_samples.py    a sample of a run's dataset -> ViewSet
white.py          a white reference in the first photo -> photos of known exposure
doubts.py         photos that differ from those of training -> what to expect
predict.py        a run or an exported file -> a model that turns a ViewSet into maps -> PNG files
refine.py         predicted maps -> maps that are fitted to the photos
ensemble.py       predictions from several sides -> their mean, and how sure the model is
prediction.py     a folder of photos -> maps in one call, which notebooks show as pictures
tiled.py          maps larger than a network can predict at once, tile by tile
scoring.py        any model and a dataset -> its errors beside the baselines
effort.py         once, from several sides, or tile by tile -> maps with what is known of them
batch.py          many captures -> a folder for each, and a table
verification.py   views to verify an export on, and the model that it was exported from
"""

from neuropbr_core.inference.doubts import find_doubts
from neuropbr_core.inference.effort import Effort, Predicted, predict_maps
from neuropbr_core.inference.ensemble import Ensemble, missing_side, predict_ensemble, predict_turned
from neuropbr_core.inference.predict import (
    ExportedGenerator,
    LoadedGenerator,
    load_exported,
    load_generator,
    refine_prediction,
    resample_confidence,
    write_confidence,
    write_maps,
    write_views,
)
from neuropbr_core.inference.prediction import Prediction, infer
from neuropbr_core.inference.refine import CaptureLight, Priors, Refinement, refined_confidence
from neuropbr_core.inference.run_samples import DatasetSample, read_sample
from neuropbr_core.inference.tiled import LargeMaps, predict_large, sharpness_of
from neuropbr_core.inference.views import ViewSet, read_capture, read_views, register_views
from neuropbr_core.inference.white import WhiteReference, calibrate

__all__ = [
    "CaptureLight",
    "DatasetSample",
    "Effort",
    "Ensemble",
    "ExportedGenerator",
    "LargeMaps",
    "LoadedGenerator",
    "Predicted",
    "Prediction",
    "Priors",
    "Refinement",
    "ViewSet",
    "WhiteReference",
    "calibrate",
    "find_doubts",
    "infer",
    "load_exported",
    "load_generator",
    "missing_side",
    "predict_ensemble",
    "predict_large",
    "predict_maps",
    "predict_turned",
    "read_capture",
    "read_sample",
    "read_views",
    "refine_prediction",
    "refined_confidence",
    "register_views",
    "resample_confidence",
    "sharpness_of",
    "write_confidence",
    "write_maps",
    "write_views",
]
