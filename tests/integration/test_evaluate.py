"""`neuropbr evaluate`: a run on what it held back, and on another dataset."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from neuropbr_core.cli import root
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import DataError, RunError
from neuropbr_core.evaluation.metrics import Row
from neuropbr_core.evaluation.summary import load_record, worst_samples
from neuropbr_core.recipe.sections import Recipe, Synthesize
from neuropbr_core.runs.evaluate import evaluate_run
from neuropbr_core.runs.run import run

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def trained(module_recipe: MakeRecipe) -> Path:
    return run(module_recipe("training.epochs=1", "export.torchscript=null"), run_name="scored")


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "scored"))


def test_the_held_back_set_gives_the_numbers_of_the_runs_summary(copy: Path) -> None:
    done = CliRunner().invoke(root, ["evaluate", "--run", str(copy), "--device", "cpu", "--worst", "1"])
    assert done.exit_code == 0, done.output
    folder = copy / "evaluations/held-back"
    found, summary = load_record(folder / "evaluation.json"), load_record(copy / "summary.json")
    assert found == summary
    assert set(found.materials) == {"acg_Bricks102", "t3_Sci-Fi_Wall_014"}
    assert found.scores["rerender"]["model"]["rmse"] > 0
    assert (folder / "evaluation.txt").read_text().strip() in done.output
    assert "rerender" in done.output
    assert "warning" not in done.output
    (worst,) = (folder / "worst").iterdir()
    first = max(found.per_sample, key=lambda row: row.values["rerender/rmse"])
    assert first.material in worst.name
    with Image.open(worst) as picture:
        assert np.asarray(picture).std() > 10


def test_another_dataset_is_scored_whole_and_what_was_trained_on_is_named(copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    synthesize(Synthesize("neuropbr:examples/materials", samples=8, size=32, seed=9), other)
    found = evaluate_run(copy, data=other, output=tmp_path / "result", worst=0)
    assert found.record.samples == 8
    assert len(found.trained_on) == 6
    assert "the run trained on 6 of 8 materials" in (tmp_path / "result/evaluation.txt").read_text()
    assert found.record.training_mean == load_record(copy / "summary.json").training_mean
    assert not (tmp_path / "result/worst").exists()


def test_json_is_the_record(copy: Path) -> None:
    arguments = ["evaluate", "--run", str(copy), "--device", "cpu", "--worst", "0", "--json"]
    done = CliRunner().invoke(root, arguments)
    assert json.loads(done.stdout) == json.loads((copy / "evaluations/held-back/evaluation.json").read_text())


def test_an_evaluation_replaces_the_one_before(copy: Path) -> None:
    for worst in (2, 1):
        evaluate_run(copy, worst=worst)
    assert len(list((copy / "evaluations/held-back/worst").iterdir())) == 1
    assert [path.name for path in (copy / "evaluations").iterdir()] == ["held-back"]


def test_what_cannot_be_scored_is_said(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run"):
        evaluate_run(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: is no dataset; it needs input/"):
        evaluate_run(copy, data=tmp_path / "nowhere")
    with pytest.raises(DataError, match="no samples found"):
        evaluate_run(copy, curriculum="dirty")
    provenance = json.loads((copy / "provenance.json").read_text())
    (copy / "provenance.json").write_text(json.dumps({**provenance, "split": None}))
    with pytest.raises(DataError, match="does not say which materials"):
        evaluate_run(copy)
    assert not (copy / "evaluations").exists()


def test_the_worst_are_those_with_the_largest_re_rendering_error(trained: Path) -> None:
    record = load_record(trained / "summary.json")
    errors = {"a": 0.1, "b": float("nan"), "c": 0.3, "d": 0.2}
    rows = tuple(Row(name, "m", {"rerender/rmse": error}) for name, error in errors.items())
    assert worst_samples(replace(record, per_sample=rows), 3) == ["b", "c", "d"]


def test_results_replace_an_earlier_evaluation_and_nothing_else(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    evaluate_run(copy, output=folder, worst=0)
    evaluate_run(copy, output=folder, worst=0)
    notes = folder / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(RunError, match=r"results: holds notes\.txt, which is no part of an evaluation"):
        evaluate_run(copy, output=folder, worst=0)
    with pytest.raises(RunError, match=r"notes\.txt: is a file, which the evaluation would replace"):
        evaluate_run(copy, output=notes, worst=0)
    assert notes.read_text() == "mine"
