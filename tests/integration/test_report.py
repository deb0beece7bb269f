"""`neuropbr report`, and the report at the end of a run."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import small_run
from click.testing import CliRunner, Result
from PIL import Image

from neuropbr_core.cli import root
from neuropbr_core.evaluation.summary import load_record, save_record
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.report import report_key
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs import report as report_stage
from neuropbr_core.runs.run import run
from neuropbr_core.shipped import shipped_root

MATERIAL = shipped_root() / "examples" / "materials" / "acg_Bricks102"
QUIET = ("observers={progress: null, grid: null, tensorboard: null}", "training.epochs=1", "export=null")
HOSTILE = "<img src=x onerror=alert(1)>"

MakeRecipe = Callable[..., Recipe]


def neuropbr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, list(map(str, arguments)))


def test_a_run_ends_with_its_report(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(*QUIET)
    with reporting_to(RecordingReporter()) as told:
        folder = run(recipe, run_name="first")
    path = folder / "report.html"
    assert f"Report: {path}" in told.lines
    page = path.read_text(encoding="utf-8")
    assert "Pictures of samples are missing" not in page
    record = load_record(folder / "summary.json")
    shown = re.findall(r'<section id="set-\d+" class="set" aria-label="([^"]+)"', page)
    assert shown
    assert set(shown) <= set(record.materials)
    assert "validation loss" in page
    assert "sha256 " in page

    # A report that is lost is written again, and nothing else is done.
    before = path.read_bytes()
    path.unlink()
    with reporting_to(RecordingReporter()) as told:
        run(recipe, run_name="first", resume=True)
    assert [line for line in told.lines if line.startswith("Skipping")]
    assert path.read_bytes() == before

    # Two runs on one page: the same samples, side by side.
    run(
        make_recipe(*QUIET, "training.seed=7", f"data.val_materials={json.dumps(list(record.materials))}"), run_name="b"
    )
    output = tmp_path / "both.html"
    done = neuropbr("report", folder, folder.parent / "b", MATERIAL, "--output", output, "--device", "cpu")
    assert done.exit_code == 0, done.output
    both = output.read_text(encoding="utf-8")
    assert "The runs side by side" in both
    assert "<h1>first · b · acg_Bricks102</h1>" in both
    versions = re.findall(r'data-version="([^"]+)"', both)
    assert versions[:4] == ["maps", "first", "b", "truth"]


def test_a_report_that_fails_does_not_fail_the_run(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **options: object) -> str:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(report_stage, "write_page", broken)
    with reporting_to(RecordingReporter()) as told:
        folder = run(make_recipe(*QUIET), run_name="unlucky")
    assert (folder / "summary.json").is_file()
    assert not (folder / "report.html").exists()
    (warning,) = [line for line in told.lines if "report was not written" in line]
    assert warning.startswith("warning: ")
    assert "ZeroDivisionError: on purpose" in warning
    assert f"Run finished: {folder}" in told.lines


@pytest.fixture
def bare_run(tmp_path: Path) -> Path:
    """A run without journal, scores and record."""
    return small_run.save_run(tmp_path / "runs" / "bare", small_run.small_recipe())


def test_what_a_run_lacks_becomes_a_note(bare_run: Path) -> None:
    done = neuropbr("report", bare_run)
    assert done.exit_code == 0, done.output
    page = (bare_run / "report.html").read_text(encoding="utf-8")
    for words in ("Curves are missing: ", "There are no scores", "The provenance is missing: "):
        assert words in page
        assert words in done.output
    assert "name: quickstart" in page


def test_damaged_files_become_notes(bare_run: Path) -> None:
    (bare_run / "summary.json").write_text("{}")
    (bare_run / "metrics.jsonl").write_text("nonsense\n")
    (bare_run / "provenance.json").write_text("[")
    (bare_run / "evaluations" / HOSTILE).mkdir(parents=True)
    (bare_run / "evaluations" / HOSTILE / "evaluation.json").write_text("{")
    done = neuropbr("report", bare_run)
    assert done.exit_code == 0, done.output
    page = (bare_run / "report.html").read_text(encoding="utf-8")
    for words in ("Scores are missing: ", "Curves are missing: ", "The provenance is missing: ", "An evaluation is"):
        assert words in page
    assert HOSTILE not in page


def test_lost_data_leave_scores_without_pictures(make_recipe: MakeRecipe) -> None:
    folder = run(make_recipe(*QUIET), run_name="moved")
    root_of_data = Path(make_recipe().data.root or "")
    away = root_of_data.rename(root_of_data.with_name("away"))
    try:
        done = neuropbr("report", folder, "--device", "cpu")
    finally:
        away.rename(root_of_data)
    assert done.exit_code == 0, done.output
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Pictures of samples are missing: " in page
    assert 'class="tile"' in page


def test_hostile_names_from_a_run(bare_run: Path) -> None:
    folder = bare_run.rename(bare_run.with_name(HOSTILE.replace("/", "")))
    (folder / "metrics.jsonl").write_text(
        json.dumps({"event": "train", "step": 1, "</script><script>alert(1)</script>": 1.0}) + "\n"
    )
    provenance = {"neuropbr": HOSTILE, "split": {"val": [HOSTILE], "train": []}, "components": [{"name": HOSTILE}]}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    done = neuropbr("report", folder)
    assert done.exit_code == 0, done.output
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "<script>alert" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_maps(tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    done = neuropbr("report", MATERIAL, "--output", output, "--map-side", 32)
    assert done.exit_code == 0, done.output
    assert f"wrote {output}" in done.output
    page = output.read_text(encoding="utf-8")
    assert "256 × 256 pixels" in page
    assert report_key(output) is not None
    assert neuropbr("report", MATERIAL, "--output", output).exit_code == 0


def test_wrong_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = neuropbr("report", tmp_path / "empty")
    assert done.exit_code == 1
    assert "is neither a run (recipe.yaml) nor a folder of maps (albedo.png, " in str(done.exception)
    done = neuropbr("report", tmp_path / "nothing")
    assert "no such folder; name a run, or a folder of maps" in str(done.exception)
    assert not list(tmp_path.rglob("*.html"))


def test_files_of_others_are_kept(tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    output.write_text("mine")
    done = neuropbr("report", MATERIAL, "--output", output)
    assert done.exit_code == 1
    assert output.read_text() == "mine"
    assert neuropbr("report", MATERIAL, "--output", output, "--overwrite", "--map-side", 16).exit_code == 0


def test_a_picture(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    picture = tmp_path / "picture.png"
    done = neuropbr("report", MATERIAL, "--output", page, "--picture", picture, "--map-side", 16)
    assert done.exit_code == 0, done.output
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.height < image.width
    picture.write_bytes(b"mine")
    done = neuropbr("report", MATERIAL, "--output", page, "--picture", picture)
    assert "not as neuropbr wrote it" in str(done.exception)
    assert picture.read_bytes() == b"mine"
    done = neuropbr("report", MATERIAL, "--output", page, "--picture", tmp_path / "picture.gif")
    assert done.exit_code == 2
    assert "allowed are the suffixes .png, .jpg, .jpeg" in done.output


def test_a_picture_needs_a_material(bare_run: Path, tmp_path: Path) -> None:
    done = neuropbr("report", bare_run, "--picture", tmp_path / "picture.png")
    assert "no material is there to draw" in str(done.exception)
    assert not (bare_run / "report.html").exists()
    assert not (tmp_path / "picture.png").exists()


def test_samples_of_other_data_are_not_mixed(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    first = run(make_recipe(*QUIET), run_name="one")
    other = first.with_name("two")
    # A run whose record names samples that its dataset does not have.
    shutil.copytree(first, other)
    record = load_record(other / "summary.json")
    rows = tuple(replace(row, sample=f"clean/other_{index}") for index, row in enumerate(record.per_sample))
    save_record(replace(record, per_sample=rows), other / "summary.json")
    done = neuropbr("report", other, "--output", tmp_path / "page.html", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert 'id="set-0"' not in (tmp_path / "page.html").read_text(encoding="utf-8")
