from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuropbr_core.contracts import ValidationSummary
from neuropbr_core.observers.grid.pictures import GridObserver
from neuropbr_core.testing.observer import ObserverSuite


class TestGrid(ObserverSuite):
    use = "grid"


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_pictures_are_written_as_they_are(tmp_path: Path) -> None:
    images = {"brick_0001": picture(0), "wood_0002": picture(1)}
    GridObserver(tmp_path).validation_finished(ValidationSummary(9, 100, {}, images))
    written = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in written] == ["epoch_0010_brick_0001.png", "epoch_0010_wood_0002.png"]
    for path, expected in zip(written, images.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


def test_nothing_is_written_when_no_picture_was_due(tmp_path: Path) -> None:
    GridObserver(tmp_path).validation_finished(ValidationSummary(0, 10, {"loss": 1.0}, {}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["clean/sample_0001", "../../outside", ".hidden", "a b:c"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    GridObserver(tmp_path / "run").validation_finished(ValidationSummary(0, 1, {}, {name: picture()}))
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.parent == tmp_path / "run" / "images"
    assert path.name.startswith("epoch_0001_")


def test_a_picture_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        GridObserver(tmp_path).validation_finished(
            ValidationSummary(0, 1, {}, {"broken": np.zeros((4, 4, 5), np.uint8)})
        )
    assert not list((tmp_path / "images").glob("*.png"))
