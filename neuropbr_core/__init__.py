"""NeuroPBR: photos of a flat material in, PBR texture maps out; every part of the network is a plugin.

The Python API; each name is imported on first use, so that `import neuropbr_core` loads nothing heavy:

    load_recipe(path, overrides)   a checked recipe, from a file or a dictionary
    run(recipe)                    train, evaluate and export what it says
    open_dataset(recipe)           its training and held-back samples
    evaluate(run)                  its errors beside the baselines; a notebook shows them with the worst samples
    export(run, to)                verified files for deployment targets
    infer(photos, model)           the maps of a folder of photos; a notebook shows them as pictures
    package(maps, targets, output) packages that other programs open
    load_generator(run)            a trained generator
    load_exported(file)            an exported one, used the same way
    read_views(folder)             photos of one material, with their cameras
    register_views(views)          cameras found from the photos alone
    write_maps(maps, folder)       maps as PNG files
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuropbr_core.data.opening import open_dataset
    from neuropbr_core.inference import (
        Prediction,
        infer,
        load_exported,
        load_generator,
        read_views,
        register_views,
        write_maps,
    )
    from neuropbr_core.inference.scoring import evaluate
    from neuropbr_core.recipe import load_recipe
    from neuropbr_core.runs.evaluate import Evaluation
    from neuropbr_core.runs.run import run
    from neuropbr_core.workflow import export, package

__version__ = "0.2.0"

_EXPORTS = {
    "load_recipe": "neuropbr_core.recipe",
    "run": "neuropbr_core.runs.run",
    "Evaluation": "neuropbr_core.runs.evaluate",
    "evaluate": "neuropbr_core.inference.scoring",
    "export": "neuropbr_core.workflow",
    "package": "neuropbr_core.workflow",
    "open_dataset": "neuropbr_core.data.opening",
    "Prediction": "neuropbr_core.inference",
    "infer": "neuropbr_core.inference",
    "load_exported": "neuropbr_core.inference",
    "load_generator": "neuropbr_core.inference",
    "read_views": "neuropbr_core.inference",
    "register_views": "neuropbr_core.inference",
    "write_maps": "neuropbr_core.inference",
}

__all__ = [
    "Evaluation",
    "Prediction",
    "__version__",
    "evaluate",
    "export",
    "infer",
    "load_exported",
    "load_generator",
    "load_recipe",
    "open_dataset",
    "package",
    "read_views",
    "register_views",
    "run",
    "write_maps",
]


def __getattr__(name: str) -> Any:
    """Import a name of the API on first use."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    """What the API offers."""
    return sorted(__all__)
