"""The bench's captures: their digest, where they are kept, and the photos for other tools."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuropbr_core import read_views
from neuropbr_core.bench.protocol import PROTOCOL, VERSION, BenchCaptures, prepare_captures, write_photos
from neuropbr_core.errors import DataError
from neuropbr_core.reporting import RecordingReporter, reporting_to


def test_the_protocol_is_the_one_that_results_were_made_with() -> None:
    # Whoever changes materials, sizes, seed or renderer makes results that cannot be compared with earlier ones: then
    # `VERSION` grows, and the digits here change.
    assert (VERSION, PROTOCOL.digest) == (1, "5e43f967")


def test_another_setting_is_another_protocol(captures: BenchCaptures) -> None:
    plan = captures.protocol.plan
    others = [replace(plan, seed=4), replace(plan, size=96), replace(plan, kinds=("flash",))]
    digests = {replace(captures.protocol, plan=other).digest for other in others}
    assert len(digests | {captures.protocol.digest}) == 4


def test_captures_are_rendered_once(captures: BenchCaptures) -> None:
    recorder = RecordingReporter()
    with reporting_to(recorder):
        again = prepare_captures(captures.protocol, captures.folder)
    assert recorder.lines == []
    assert again.photos == captures.photos
    assert list(again.names)[:4] == [
        "acg_MetalPlates006_flash",
        "acg_Rock053_flash",
        "t3_Wood_027_flash",
        "acg_MetalPlates006_offset",
    ]


def test_photos_for_other_tools_show_the_tile_when_they_are_aligned(captures: BenchCaptures, tmp_path: Path) -> None:
    place = write_photos(captures, tmp_path / "photos for others")
    record = json.loads((place / "bench.json").read_text())
    assert record["protocol"] == captures.protocol.digest
    assert [entry["name"] for entry in record["captures"]] == list(captures.names)
    assert "neuropbr bench --maps MAPS" in (place / "README.txt").read_text()
    for name, sample in captures.names.items():
        # The photos and cameras are read as those of any capture.
        views = read_views(place / "photos" / name)
        assert views.homographies is not None
        assert len(views.paths) == 3
        assert views.paths[0].read_bytes() == Path(sample.views[0]).read_bytes()
        with Image.open(place / "aligned" / name / "0.png") as picture:
            assert picture.size == (96, 96)
    with Image.open(place / "aligned/t3_Wood_027_flash/0.png") as picture:
        aligned = np.asarray(picture.convert("L"), float)
    with Image.open(captures.folder / "output/t3_Wood_027/albedo.png") as picture:
        albedo = np.asarray(picture.convert("L").resize((96, 96)), float)
    # Light falls off over the tile, so only detail is compared: 0.6 where the tile is not shifted or turned.
    detail = [
        values - np.asarray(Image.fromarray(values).resize((6, 6)).resize((96, 96))) for values in (aligned, albedo)
    ]
    assert np.corrcoef(detail[0].ravel(), detail[1].ravel())[0, 1] > 0.6
    assert np.corrcoef(detail[0].ravel(), detail[1][::-1].ravel())[0, 1] < 0.3


def test_a_folder_with_content_is_no_place_for_photos(captures: BenchCaptures, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty; name a new folder"):
        write_photos(captures, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
