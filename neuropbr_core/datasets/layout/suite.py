"""The layout's conformance suite, with a small dataset in the layout of folders."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neuropbr_core.contracts import CameraRecord
from neuropbr_core.data.images import write_map, write_png
from neuropbr_core.data.layout.paths import write_cameras
from neuropbr_core.maps import MAPS
from neuropbr_core.testing.dataset import DatasetSuite

SIZE = 32
"""Side of the written images, in pixels."""


def write_layout(folder: Path) -> Mapping[str, Any]:
    """Write three samples of two materials, two random views each.

    Args:
        folder: An empty folder.

    Returns:
        The keys of section `data` that the dataset needs.
    """
    rng = np.random.default_rng(0)
    names = {f"sample_000{index}": f"m{index % 2}" for index in range(3)}
    for name, view in itertools.product(names, range(2)):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        write_png(folder / "input/clean" / name / f"{view}.png", pixels)
    for material, spec in itertools.product(("m0", "m1"), MAPS.values()):
        stored = rng.integers(0, 256, (spec.channels, SIZE, SIZE), dtype=np.uint8)
        write_map(folder / "output" / material, spec, stored)
    (folder / "input/render_metadata.json").write_text(json.dumps(names))
    # Each view is taken from straight above, two tile sides away.
    camera = CameraRecord(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 2.0))
    write_cameras(folder / "input/cameras.json", dict.fromkeys(names, (camera,) * 2))
    return {"root": str(folder), "views": 2}


class LayoutSuite(DatasetSuite):
    """Everything a dataset must do."""

    use = "layout"

    def write_dataset(self, folder: Path) -> Mapping[str, Any]:
        """Write the dataset."""
        return write_layout(folder)
