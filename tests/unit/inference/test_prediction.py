"""`infer` and its result: the maps of the command, and pictures for notebooks."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import neuropbr_core as neuropbr
from neuropbr_core.cli import root
from neuropbr_core.errors import DataError

BRICKS = Path(__file__).parents[3] / "examples" / "captures" / "bricks"


def test_maps_are_those_of_the_command(tmp_path: Path) -> None:
    prediction = neuropbr.infer(BRICKS, refine=3, device="cpu")
    words = ["infer", str(BRICKS), "--refine", "3", "--output", str(tmp_path / "command"), "--device", "cpu"]
    assert CliRunner().invoke(root, words).exit_code == 0
    written = prediction.write(tmp_path / "library")
    assert {path.name for path in written} == {path.name for path in (tmp_path / "command").glob("*.png")}
    for path in written:
        np.testing.assert_array_equal(Image.open(path), Image.open(tmp_path / "command" / path.name))
    assert repr(prediction).startswith("Prediction('bricks', albedo, ")
    shown = prediction._repr_html_()
    assert shown.count("data:image/png;base64,") == len(prediction.maps) == 4


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        neuropbr.infer(tmp_path / "nowhere", device="cpu")


def test_steps_are_checked_before_photos_are_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 or more; found -1"):
        neuropbr.infer(tmp_path / "nowhere", refine=-1, device="cpu")
