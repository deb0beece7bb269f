"""`neuropbr evaluate`: a run on what it held back, models on other datasets, and refined maps."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from neuropbr_core import export, infer, load_generator, read_views
from neuropbr_core.cli import root
from neuropbr_core.data.images import read_map
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import DataError, RunError
from neuropbr_core.evaluation.metrics import Row
from neuropbr_core.evaluation.summary import load_record, worst_samples
from neuropbr_core.inference.scoring import evaluate
from neuropbr_core.maps import ALBEDO, ROUGHNESS
from neuropbr_core.recipe.sections import Data, Recipe, Synthesize
from neuropbr_core.reporting import RecordingReporter, reporting_to
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
    assert {row.capture_kind for row in found.per_sample} == {"flash"}
    assert all(row.photos for row in found.per_sample)
    assert list(found.groups["material class"]) == ["rough metal", "non-metal", "flat"]
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
    found = evaluate(copy, data=other, output=tmp_path / "result", worst=0)
    assert found.record.samples == 8
    assert len(found.trained_on) == 6
    assert "the model was trained on 6 of 8 materials" in (tmp_path / "result/evaluation.txt").read_text()
    assert found.record.training_mean == load_record(copy / "summary.json").training_mean
    assert not (tmp_path / "result/worst").exists()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures of two materials in two kinds, with three views large enough to be registered; one sample is black."""
    folder = tmp_path_factory.mktemp("kinds")
    for name in ("t3_Pebbles_025", "acg_Bricks102"):
        shutil.copytree(Path(__file__).parents[2] / "examples/materials" / name, folder / "materials" / name)
    plan = Synthesize(str(folder / "materials"), samples=4, size=160, seed=3, kinds=("flash", "no_flash"))
    synthesize(plan, folder / "data")
    Image.new("RGB", (160, 160)).save(folder / "data/input/clean/sample_0003/1.png")
    return folder / "data"


def test_views_are_counted_from_the_first_and_kinds_compared(copy: Path, kinds: Path, tmp_path: Path) -> None:
    options = ["--data", str(kinds), "--views", "1,3", "--worst", "1", "--output", str(tmp_path / "result")]
    done = CliRunner().invoke(root, ["evaluate", "--run", str(copy), "--device", "cpu", *options])
    assert done.exit_code == 0, done.output
    record = load_record(tmp_path / "result/evaluation.json")
    assert (record.samples, record.views, record.cameras, record.refused) == (4, 3, "recorded", ())
    assert sorted((row.sample, row.views) for row in record.per_sample) == [
        (f"clean/sample_{i:04d}", views) for i in range(4) for views in (1, 3)
    ]
    assert list(record.groups["capture kind"]) == ["flash", "no_flash"]
    assert {label: group.samples for label, group in record.groups["number of views"].items()} == {"1": 4, "3": 4}
    for text in ("by capture kind", "by material class", "by number of views"):
        assert text in done.stdout
    # With one view the median of the views is that view.
    single = next(row for row in record.per_sample if row.views == 1)
    assert single.baselines["median of the aligned views"]["albedo/psnr"] > 0
    alone = evaluate(copy, data=kinds, views=(3,), worst=0, output=tmp_path / "three").record
    assert alone.scores == record.scores


def test_registered_cameras_leave_out_and_name_what_cannot_be_registered(
    copy: Path, kinds: Path, tmp_path: Path
) -> None:
    output = tmp_path / "result"
    record = evaluate(copy, data=kinds, cameras="registered", worst=0, output=output).record
    assert (record.samples, record.cameras) == (3, "registered")
    (refusal,) = record.refused
    assert (refusal.sample, refusal.material, refusal.capture_kind) == (
        "clean/sample_0003",
        "t3_Pebbles_025",
        "no_flash",
    )
    assert "1.png: cannot be registered" in refusal.reason
    assert "Not scored: 1 of 4 samples" in (output / "evaluation.txt").read_text()
    recorded = evaluate(copy, data=kinds, cameras="recorded", worst=0, output=tmp_path / "recorded").record
    for row, twin in zip(record.per_sample, recorded.per_sample[:3], strict=True):
        assert row.sample == twin.sample
        assert row.values["normal/angle"] == pytest.approx(twin.values["normal/angle"], rel=0.1)
        assert row.values != twin.values


def test_evaluations_are_compared_and_their_files_remember_it(copy: Path, kinds: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    evaluate(copy, data=kinds, worst=0, output=first)
    options = ["--data", str(kinds), "--worst", "0", "--output", str(tmp_path / "second")]
    options += ["--compare", str(first / "evaluation.json"), "--checkpoint", "latest"]
    done = CliRunner().invoke(root, ["evaluate", "--run", str(copy), "--device", "cpu", *options])
    assert done.exit_code == 0, done.output
    record = load_record(tmp_path / "second/evaluation.json")
    (group,) = record.comparison["all"].values()
    assert group.scores["albedo/psnr"].gain == 0
    assert f"Against {first / 'evaluation.json'}" in done.stdout
    with pytest.raises(DataError, match="has no sample in common"):
        evaluate(copy, data=kinds, views=(1,), worst=0, compare=first / "evaluation.json", output=tmp_path / "third")
    with pytest.raises(DataError, match=r"nothing\.json: there is no such file; it is no evaluation record"):
        evaluate(copy, data=kinds, compare=tmp_path / "nothing.json", output=tmp_path / "third")
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--views", "1,x"), "found 'x'; give numbers from 1 to 64 such as 1,2,3,5"),
        (("--views", "0"), "found '0'"),
        (("--cameras", "guessed"), "'recorded', 'registered'"),
    ],
)
def test_wrong_options_are_refused(copy: Path, options: tuple[str, str], message: str) -> None:
    done = CliRunner().invoke(root, ["evaluate", "--run", str(copy), *options])
    assert done.exit_code == 2
    assert message in done.output


def test_json_is_the_record(copy: Path) -> None:
    arguments = ["evaluate", "--run", str(copy), "--device", "cpu", "--worst", "0", "--json"]
    done = CliRunner().invoke(root, arguments)
    assert json.loads(done.stdout) == json.loads((copy / "evaluations/held-back/evaluation.json").read_text())


def test_an_evaluation_replaces_the_one_before(copy: Path) -> None:
    for worst in (2, 1):
        evaluate(copy, worst=worst)
    assert len(list((copy / "evaluations/held-back/worst").iterdir())) == 1
    assert [path.name for path in (copy / "evaluations").iterdir()] == ["held-back"]


def test_what_cannot_be_scored_is_said(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run"):
        evaluate(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: is no dataset; it needs input/"):
        evaluate(copy, data=tmp_path / "nowhere")
    with pytest.raises(DataError, match="no samples found"):
        evaluate(copy, curriculum="dirty")
    provenance = json.loads((copy / "provenance.json").read_text())
    (copy / "provenance.json").write_text(json.dumps({**provenance, "split": None}))
    assert not (copy / "evaluations").exists()
    recorder = RecordingReporter()
    with reporting_to(recorder):
        evaluate(copy, worst=0)
    assert any("does not say which materials" in line and "drawn again" in line for line in recorder.lines)


def test_the_worst_are_those_with_the_largest_re_rendering_error(trained: Path) -> None:
    record = load_record(trained / "summary.json")
    errors = {"a": 0.1, "b": float("nan"), "c": 0.3, "d": 0.2}
    rows = tuple(Row(name, "m", {"rerender/rmse": error}, views=3) for name, error in errors.items())
    assert worst_samples(replace(record, per_sample=rows), 3) == ["b", "c", "d"]


def test_results_replace_an_earlier_evaluation_and_nothing_else(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    evaluate(copy, output=folder, worst=0)
    evaluate(copy, output=folder, worst=0)
    notes = folder / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(RunError, match=r"results: holds notes\.txt, which is no part of an evaluation"):
        evaluate(copy, output=folder, worst=0)
    with pytest.raises(RunError, match=r"notes\.txt: is a file, which the evaluation would replace"):
        evaluate(copy, output=notes, worst=0)
    assert notes.read_text() == "mine"


def test_a_model_that_ships_is_scored_on_a_dataset_as_its_generator_predicts(kinds: Path, tmp_path: Path) -> None:
    output = tmp_path / "shipped"
    options = ["--model", "flash-3", "--data", str(kinds), "--worst", "1", "--device", "cpu", "--output", str(output)]
    done = CliRunner().invoke(root, ["evaluate", *options])
    assert done.exit_code == 0, done.output
    record = load_record(output / "evaluation.json")
    assert (record.samples, record.views, record.refined) == (4, 3, 0)
    assert len(record.weights) == 64
    # flash-3 was trained on neither of these materials, and its list says so.
    assert "warning" not in done.stdout
    assert len(list((output / "worst").iterdir())) == 1
    model = load_generator("neuropbr:flash-3")
    sample = find_samples(Data(root=str(kinds), views=3, alignment="recorded"))[0]
    maps = model.predict(read_views(sample.views[0].parent))
    truth = read_map(sample.maps["roughness"], ROUGHNESS, 256)
    error = abs(maps["roughness"][0].numpy() - truth / 255).mean()
    assert record.per_sample[0].values["roughness/mae"] == pytest.approx(error, abs=1e-3)


def test_an_exported_file_has_the_scores_of_its_model(copy: Path, kinds: Path, tmp_path: Path) -> None:
    model = load_generator(copy)
    model.save(tmp_path / "mine.safetensors")
    export(copy, "torchscript", output=tmp_path / "exported")
    by_run = evaluate(copy, data=kinds, worst=0, output=tmp_path / "by_run").record
    for name in ("mine.safetensors", "exported/torchscript.pt"):
        options = ["--model", str(tmp_path / name), "--data", str(kinds), "--worst", "0", "--device", "cpu"]
        done = CliRunner().invoke(root, ["evaluate", *options, "--output", str(tmp_path / "file")])
        assert done.exit_code == 0, done.output
        by_file = load_record(tmp_path / "file/evaluation.json")
        for map_name, scores in by_run.scores.items():
            assert by_file.scores[map_name]["model"] == pytest.approx(scores["model"], abs=2e-3)
    assert by_file.weights == by_run.weights
    fewer = CliRunner().invoke(root, ["evaluate", *options, "--views", "2"])
    assert "takes 3 views; leave out --views" in str(fewer.exception)


def test_refined_maps_are_those_of_inference(copy: Path, kinds: Path, tmp_path: Path) -> None:
    options = ["--model", "flash-3", "--data", str(kinds), "--worst", "0", "--device", "cpu", "--refine", "5"]
    done = CliRunner().invoke(root, ["evaluate", *options, "--output", str(tmp_path / "refined")])
    assert done.exit_code == 0, done.output
    assert "fitted to the photos in 5 steps" in done.stdout
    record = load_record(tmp_path / "refined/evaluation.json")
    assert record.refined == 5
    first = record.per_sample[0]
    # The dataset keeps photos at the size that the model reads, so that inference sees the same pixels.
    inferred = infer(kinds / "input" / first.sample, "neuropbr:flash-3", refine=5, device="cpu")
    truth = read_map(kinds / "output" / first.material / "albedo.png", ALBEDO, 256)
    error = abs(inferred.maps["albedo"][0].numpy() - truth / 255).mean()
    assert first.values["albedo/mae"] == pytest.approx(error, abs=1e-3)
    # The samples of a run are refined too, and do not replace the evaluation of its maps as predicted.
    evaluate(copy, refine=5, worst=0)
    assert load_record(copy / "evaluations/held-back-refined/evaluation.json").refined == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--run", "here", "--model", "flash-3"], "either --run DIR or --model"),
        (["--model", "flash-3"], "--data DIR"),
        ([], "name a run with --run DIR"),
    ],
)
def test_a_model_is_named_once_and_needs_samples(options: list[str], message: str) -> None:
    done = CliRunner().invoke(root, ["evaluate", *options])
    assert done.exit_code == 2
    assert message in done.output
