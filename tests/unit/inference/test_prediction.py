"""`infer` and its result: the maps of the command, and pictures for notebooks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import neuropbr_core as neuropbr
from neuropbr_core.cli import root
from neuropbr_core.contracts import Exporter, Maps
from neuropbr_core.errors import DataError, ExportError
from neuropbr_core.exporting.record import OpenedExport, Record
from neuropbr_core.exporting.subject import Signature
from neuropbr_core.inference import ExportedGenerator
from neuropbr_core.maps import MAPS

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


SIGNATURE = Signature(
    views=1, image_size=8, photo_size=8, output_size=8, alignment="none", directed=False, geometry="inputs"
)
MAPS_OF_A_FILE = {name: torch.zeros(1, spec.channels, 8, 8) for name, spec in MAPS.items()}


def exported(maps: dict[str, torch.Tensor]) -> ExportedGenerator:
    class Fixed(Exporter):
        suffix = ".bin"

        def load_untrusted(self, path: Path) -> Callable[[Mapping[str, torch.Tensor]], Maps]:
            return lambda _: maps

    record = Record("x:y", {"signature": SIGNATURE.text()}, {})
    return ExportedGenerator(OpenedExport(Path("model.bin"), "x:y", Fixed(), record, trusted=False))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"normal": torch.zeros(1, 1, 8, 8)}, r"map normal as \(1, 1, 8, 8\) of torch.float32"),
        ({"albedo": torch.zeros(1, 3, 4, 4)}, r"not as \(1, 3, 8, 8\)"),
        ({"albedo": torch.zeros(1, 3, 8, 8, dtype=torch.int32)}, r"torch\.int32"),
        ({"metallic": None}, r"no map metallic"),
    ],
)
def test_maps_that_a_file_does_not_promise_are_refused(change: dict[str, torch.Tensor | None], said: str) -> None:
    maps = {name: value for name, value in {**MAPS_OF_A_FILE, **change}.items() if value is not None}
    with pytest.raises(ExportError, match=rf"^model\.bin: .*{said}"):
        exported(maps).apply({})


def test_only_the_known_maps_of_a_file_are_used() -> None:
    # A name becomes that of a file.
    assert list(exported({"../evil": torch.zeros(1), **MAPS_OF_A_FILE}).apply({})) == list(MAPS)


@pytest.mark.parametrize("side", [0, 1_000_000_000])
def test_a_signature_that_no_model_has_is_refused(side: int) -> None:
    with pytest.raises(msgspec.DecodeError, match="image_size"):
        Signature.read(replace(SIGNATURE, image_size=side).text())
