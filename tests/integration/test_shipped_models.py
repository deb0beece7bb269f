"""The models that ship with the package: they are found, predict, keep their scores, and can be exported."""

import json
import runpy
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import neuropbr_core as neuropbr
from neuropbr_core.cli import root
from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.exporting.record import read_record
from neuropbr_core.inference import write_maps
from neuropbr_core.shipped import (
    CARD,
    DEFAULT_MODEL,
    chosen_materials,
    model_names,
    resolve,
    shipped_model,
    shipped_root,
    trained_materials,
)

CAPTURES = shipped_root() / "examples" / "captures"
MAPS = ("albedo.png", "metallic.png", "normal.png", "roughness.png")


def test_all_models_together_stay_small_and_have_a_card() -> None:
    assert DEFAULT_MODEL in model_names()
    size = sum(path.stat().st_size for path in (shipped_root() / "models").rglob("*") if path.is_file())
    assert size <= 8_000_000
    for name in model_names():
        model = shipped_model(name)
        assert model.name == name
        assert len(model.summary) > 20
        assert model.license
        assert resolve(f"neuropbr:{name}") == model.folder
        assert len(trained_materials(model.folder)) > 0
        assert not set(trained_materials(model.folder)) & set(chosen_materials(model.folder))
        card = (model.folder / CARD).read_text(encoding="utf-8")
        for heading in ("## Data", "## Scores", "## What it cannot do", "## Training"):
            assert heading in card, f"{name}: the card lacks {heading}"


def test_an_unknown_model_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(NeuroPBRError, match=f"Did you mean '{DEFAULT_MODEL}'"):
        shipped_model(DEFAULT_MODEL.replace("-", ""))
    result = CliRunner().invoke(root, ["infer", str(CAPTURES / "bricks"), "--model", "flesh-3"])
    assert result.exit_code == 1
    assert DEFAULT_MODEL in str(result.exception)


def test_models_are_listed() -> None:
    text = CliRunner().invoke(root, ["list-models"]).output
    assert f"{DEFAULT_MODEL}*" in text
    rows = json.loads(CliRunner().invoke(root, ["list-models", "--json"]).output)
    assert [row["name"] for row in rows] == model_names()
    assert [row["name"] for row in rows if row["default"]] == [DEFAULT_MODEL]
    assert all(Path(row["card"]).is_file() for row in rows)


def test_photos_alone_give_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(root, ["infer", str(CAPTURES / "bricks")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "refined in 200 steps" in result.output
    # A model that ships is refined, which tells how far the maps can be trusted.
    assert sorted(path.name for path in (tmp_path / "bricks_maps").glob("*.png")) == sorted([*MAPS, "confidence.png"])
    with Image.open(tmp_path / "bricks_maps" / "albedo.png") as albedo:
        assert albedo.size == (256, 256)


def test_maps_are_as_predicted_where_refinement_is_turned_off(tmp_path: Path) -> None:
    arguments = ["infer", str(CAPTURES / "bricks"), "--refine", "0", "--output", str(tmp_path / "maps")]
    result = CliRunner().invoke(root, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.png")) == list(MAPS)
    model = neuropbr.load_generator(f"neuropbr:{DEFAULT_MODEL}")
    predicted = model.predict(neuropbr.read_views(CAPTURES / "bricks"))
    write_maps(predicted, tmp_path / "predicted")
    for name in MAPS:
        assert (tmp_path / "maps" / name).read_bytes() == (tmp_path / "predicted" / name).read_bytes()


def test_photos_and_a_model_are_given_once() -> None:
    photos = str(CAPTURES / "bricks")
    for arguments in ([photos, "--input", photos], [photos, "--run", "runs/x", "--model", DEFAULT_MODEL], []):
        assert CliRunner().invoke(root, ["infer", *arguments]).exit_code == 2


def test_the_shipped_weights_have_the_shipped_scores() -> None:
    captured_scores = runpy.run_path(str(shipped_root() / "models" / "ship.py"))["captured_scores"]
    for name in model_names():
        folder = shipped_model(name).folder
        recorded = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        for capture, scores in captured_scores(folder).items():
            # Other processors round differently; a changed preparation of photos moves far more than this.
            assert scores == pytest.approx(recorded[capture], rel=0.01, abs=0.002)


def test_a_shipped_model_is_exported_without_a_run(tmp_path: Path) -> None:
    arguments = ["--input", str(CAPTURES / "bricks"), "--output", str(tmp_path)]
    result = CliRunner().invoke(root, ["export", "--model", DEFAULT_MODEL, "--to", "torchscript", *arguments])
    assert result.exit_code == 0, result.output
    record = read_record(tmp_path / "torchscript.pt")
    assert record is not None
    assert record.verification["passed"]
    result = CliRunner().invoke(root, ["export", "--to", "torchscript", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "either --run DIR or --model NAME" in result.output


@pytest.mark.slow
def test_the_student_for_phones_reaches_the_marks_of_each_target(tmp_path: Path) -> None:
    arguments = ["--to", "coreml,onnx,torchscript", "--option", "coreml.precision=mixed", "--output", str(tmp_path)]
    result = CliRunner().invoke(root, ["export", "--model", "flash-3-small", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for file in ("coreml.mlpackage", "onnx.onnx", "torchscript.pt"):
        record = read_record(tmp_path / file)
        assert record is not None
        assert record.verification["passed"]


def test_an_ensemble_writes_its_confidence(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        root, ["infer", str(CAPTURES / "bricks"), "--ensemble", "--output", str(tmp_path)], catch_exceptions=False
    )
    assert "another photo would tell most from the" in result.output
    with Image.open(tmp_path / "confidence.png") as confidence:
        assert confidence.size == (256, 256)
        low, high = confidence.getextrema()
    assert 0 <= low < high <= 255


def test_a_later_call_leaves_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    photos = tmp_path / "bricks"
    shutil.copytree(CAPTURES / "bricks", photos)
    out = tmp_path / "maps"
    arguments = ["infer", str(photos), "--output", str(out)]
    CliRunner().invoke(root, [*arguments, "--ensemble", "--size", "100"], catch_exceptions=False)
    with Image.open(out / "confidence.png") as confidence:
        assert confidence.size == (100, 100)
    (photos / "2.jpg").unlink()
    cameras = json.loads((photos / "cameras.json").read_text())
    (photos / "cameras.json").write_text(json.dumps({"bricks": cameras["bricks"][:2]}))
    result = CliRunner().invoke(root, [*arguments, "--refine", "0"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert not (out / "confidence.png").exists()
    assert sorted(path.name for path in (out / "views").iterdir()) == ["0.png", "1.png"]
