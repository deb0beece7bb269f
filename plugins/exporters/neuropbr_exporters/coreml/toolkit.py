"""Imports and calls coremltools without its noise."""

import importlib
import io
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import ModuleType


def coremltools() -> ModuleType:
    """Import coremltools.

    Off macOS it logs that Core ML's runtime is missing, which is known; it also logs remarks on versions of other
    packages, and imports ExecuTorch when that is installed.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with quiet():
        return importlib.import_module("coremltools")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress coremltools' warnings, log messages and progress bars."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        # Redirected, because progress bars are written to standard error and not logged.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                yield
            except Exception as error:
                # Its temporary folders warn when their frames are freed. After an error that would happen when
                # somebody drops the traceback, so the frames are freed here, where the warning is suppressed.
                traceback.clear_frames(error.__traceback__)
                raise
    finally:
        logging.disable(level)
