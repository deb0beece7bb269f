"""Maps of other tools are understood by their names, and what is missing or doubtful is named."""

import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_maps import true_maps
from PIL import Image
from small_run import save_run, small_recipe

from neuropbr_core import load_generator
from neuropbr_core.bench.entries import entry_of_maps, entry_of_model
from neuropbr_core.bench.protocol import BenchCaptures
from neuropbr_core.bench.scores import score
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAP_NAMES


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_true_maps_have_no_errors(captures: BenchCaptures, tmp_path: Path) -> None:
    entry = entry_of_maps(true_maps(captures, tmp_path / "truth"), captures)
    assert (entry.name, entry.missing, entry.trained_on) == ("truth", {}, ((), False))
    spreads = score([entry], captures).scores[0].over(("acg_MetalPlates006", "acg_Rock053", "t3_Wood_027"))
    for metric, best in {"albedo/psnr": 60, "rerender/psnr": 60, "roughness/mae": 0, "normal/angle": 0}.items():
        assert spreads[metric].mean == pytest.approx(best, abs=1e-4)
        assert spreads[metric].materials == 3


def test_names_and_conventions_of_other_tools_are_understood(captures: BenchCaptures, tmp_path: Path) -> None:
    folder = true_maps(captures, tmp_path / "theirs")
    for name in captures.names:
        own = folder / name
        normal = pixels(own / "normal.png").copy()
        normal[..., 1] = 255 - normal[..., 1]
        packed = np.stack(
            [np.full((64, 64), 255), pixels(own / "roughness.png"), pixels(own / "metallic.png")], axis=-1
        )
        Image.fromarray(normal).save(own / "result_NormalDX.png")
        Image.fromarray(packed.astype(np.uint8)).save(own / "result_ORM.png")
        (own / "albedo.png").rename(own / "result_BaseColor.png")
        for file in ("normal.png", "roughness.png", "metallic.png"):
            (own / file).unlink()
    # The same maps in an archive, and with the capture's name before the map's.
    with zipfile.ZipFile(folder / "t3_Wood_027_flash.zip", "w") as archive:
        for file in sorted((folder / "t3_Wood_027_flash").iterdir()):
            archive.write(file, file.name)
    shutil.rmtree(folder / "t3_Wood_027_flash")
    for file in sorted((folder / "t3_Wood_027_offset").iterdir()):
        file.rename(folder / file.name.replace("result", "t3_Wood_027_offset"))
    (folder / "t3_Wood_027_offset").rmdir()
    entry = entry_of_maps(folder, captures)
    assert entry.missing == {}
    (scores,) = score([entry], captures).scores
    for row in scores.rows:
        assert row.values["albedo/psnr"] == 60
        assert row.values["roughness/mae"] == row.values["metallic/mae"] == 0
        # Turning green round in 8 bits moves it by half a level.
        assert row.values["normal/angle"] < 0.5
    assert "normal: DirectX by its name; converted to OpenGL (6 of 6 captures)" in entry.notes


def test_maps_of_another_size_are_averaged_with_a_line(captures: BenchCaptures, tmp_path: Path) -> None:
    folder = true_maps(captures, tmp_path / "large")
    for file in folder.rglob("*.png"):
        with Image.open(file) as image:
            larger = image.resize((128, 128), Image.Resampling.NEAREST)
        larger.save(file)
    entry = entry_of_maps(folder, captures)
    assert any("shrunk from 128 pixels (6 of 6 captures)" in note for note in entry.notes)
    assert score([entry], captures).scores[0].over(["acg_Rock053"])["albedo/psnr"].mean == 60
    with Image.open(folder / "acg_Rock053_flash/albedo.png") as image:
        image.crop((0, 0, 128, 100)).save(folder / "acg_Rock053_flash/albedo.png")
    entry = entry_of_maps(folder, captures)
    assert any(
        "albedo is not scored: 1 of 6 captures lack it, such as acg_Rock053_flash" in note for note in entry.notes
    )


def test_what_is_missing_is_named_and_not_scored(captures: BenchCaptures, tmp_path: Path) -> None:
    folder = true_maps(captures, tmp_path / "partial")
    shutil.rmtree(folder / "acg_Rock053_offset")
    (folder / "acg_Rock053_flash/roughness.png").unlink()
    shutil.copytree(folder / "acg_Rock053_flash", folder / "holiday")
    entry = entry_of_maps(folder, captures)
    assert entry.missing == {"acg_Rock053_offset": "there are no maps of that name"}
    assert any("roughness is not scored: 1 of 6 captures lack it" in note for note in entry.notes)
    assert "not of this bench: holiday" in entry.notes
    assert all(set(maps) == {"albedo", "metallic", "normal"} for maps in entry.maps.values())
    (scores,) = score([entry], captures).scores
    assert len(scores.rows) == 5
    assert not any(key.startswith(("roughness/", "rerender/")) for row in scores.rows for key in row.values)


def test_folders_that_are_no_maps_are_refused(captures: BenchCaptures, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; give the folder that holds"):
        entry_of_maps(tmp_path / "nowhere", captures)
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="holds the photos of the bench"):
        entry_of_maps(tmp_path, captures)
    folder = true_maps(captures, tmp_path / "maps")
    shutil.copytree(folder / "acg_Rock053_flash", folder / "again/acg_Rock053_flash")
    with pytest.raises(DataError, match="has two sets of maps for acg_Rock053_flash"):
        entry_of_maps(folder, captures)
    shutil.rmtree(folder)
    shutil.copytree(captures.folder / "output/acg_Rock053", folder / "stone")
    with pytest.raises(
        DataError, match="holds maps of no capture of the bench; it needs a folder for each, such as acg_"
    ):
        entry_of_maps(folder, captures)
    pipe = folder / "acg_Rock053_flash" / "albedo.png"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=f"{re.escape(str(pipe))}: is no regular file"):
        entry_of_maps(folder, captures)


def test_a_model_of_another_size_is_resampled(captures: BenchCaptures, tmp_path: Path) -> None:
    model = load_generator(save_run(tmp_path / "run", small_recipe()))
    entry = entry_of_model(model, captures)
    assert "maps of 32 pixels were resampled to 64" in entry.notes
    assert entry.name == "run"
    assert entry.trained_on == ((), False)
    assert set(entry.maps) == set(captures.names)
    for maps in entry.maps.values():
        assert set(maps) == set(MAP_NAMES)
        assert maps["normal"].shape == (1, 3, 64, 64)
        assert torch.linalg.vector_norm(maps["normal"], dim=1).sub(1).abs().max() < 1e-5
