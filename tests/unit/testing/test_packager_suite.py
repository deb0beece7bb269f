"""The suite for packagers finds the faults that it is there for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neuropbr_core.registry import default_registry
from neuropbr_core.testing.packager import PackagerSuite


class Spoilt(PackagerSuite):
    """A packager whose mask is changed after it was written."""

    use = "unity"
    channel = 0

    def write(self, options: Any, folder: Path, **overrides: Any) -> Path:
        package = super().write(options, folder, **overrides)
        (mask,) = package.rglob("*MaskMap.png")
        pixels = np.array(Image.open(mask))
        pixels[..., self.channel] //= 2
        Image.fromarray(pixels).save(mask)
        return package


@pytest.mark.parametrize("channel", [0, 3])
def test_each_channel_is_compared_alpha_too(channel: int, tmp_path: Path) -> None:
    suite = Spoilt()
    suite.channel = channel
    options = default_registry().options("packager", "unity")()
    packager = suite.create(options)
    PackagerSuite.test_channels_are_stored_as_declared(PackagerSuite.__new__(Whole), packager, options, tmp_path / "a")
    with pytest.raises(AssertionError, match=f"channel {channel} must hold"):
        suite.test_channels_are_stored_as_declared(packager, options, tmp_path / "b")


class Whole(PackagerSuite):
    """The packager as it is."""

    use = "unity"
