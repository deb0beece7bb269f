"""Maps of the bench's captures, as a tool would bring them."""

import shutil
from pathlib import Path

from neuropbr_core.bench.protocol import BenchCaptures


def true_maps(captures: BenchCaptures, folder: Path) -> Path:
    """Write the maps of a tool that knows the truth; returns the folder."""
    for name, sample in captures.names.items():
        shutil.copytree(captures.folder / "output" / sample.material, folder / name)
    return folder
