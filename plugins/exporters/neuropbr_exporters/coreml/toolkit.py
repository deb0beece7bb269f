"""Imports and calls coremltools without its noise."""

import importlib.util
import io
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import ModuleType

from neuropbr_core.contracts import Availability

INSTALL = "pip install 'neuropbr[coreml]'"


def availability() -> Availability:
    """Whether coremltools is installed."""
    if importlib.util.find_spec("coremltools") is None:
        return Availability(ok=False, reason=f"coremltools is not installed; {INSTALL}")
    return Availability(ok=True)


def can_palettise() -> bool:
    """Whether scikit-learn is there, which coremltools needs for clustering weights but does not declare."""
    return importlib.util.find_spec("sklearn") is not None


def coremltools() -> ModuleType:
    """Import coremltools.

    Off macOS it logs that Core ML's runtime is missing, which is known; it also remarks on versions of other packages,
    and imports ExecuTorch when that is installed.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with quiet():
        return importlib.import_module("coremltools")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep coremltools' warnings, log messages and progress bars away.

    Its temporary folders are closed when its frames go, with a warning; on an error this happens here, and not when
    the traceback is dropped.
    """
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                yield
            except Exception as error:
                traceback.clear_frames(error.__traceback__)
                raise
    finally:
        logging.disable(level)
