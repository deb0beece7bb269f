"""Writes validation pictures to disk."""

import io
from pathlib import Path

from PIL import Image

from neuropbr_core.contracts import Observer, ValidationSummary
from neuropbr_core.files import file_name, write_bytes

FOLDER = "images"


class GridObserver(Observer):
    """Writes `images/epoch_NNNN_NAME.png` for every picture of a validation. Epochs count from 1.

    Args:
        run_dir: The run's folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / FOLDER

    def validation_finished(self, summary: ValidationSummary) -> None:
        """Write the pictures; each file appears complete or not at all."""
        for name, picture in summary.images.items():
            # Encoded in memory first: a run that is killed while it encodes leaves no half of a file.
            encoded = io.BytesIO()
            Image.fromarray(picture).save(encoded, format="PNG")
            write_bytes(self._folder / f"epoch_{summary.epoch + 1:04d}_{file_name(name)}.png", encoded.getvalue())
