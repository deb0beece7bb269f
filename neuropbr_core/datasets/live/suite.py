"""The conformance suite of live captures: the samples, which validation shows, are those of the layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuropbr_core.datasets.layout.suite import write_layout
from neuropbr_core.testing.dataset import DatasetSuite


class LiveSuite(DatasetSuite):
    """Everything a dataset must do."""

    use = "live"

    def write_dataset(self, folder: Path) -> Mapping[str, Any]:
        """Write the captures for validation, whose cameras are known."""
        return {**write_layout(folder), "alignment": "recorded"}
