"""A run as a list of stages: what is done is skipped, what failed is done again, and one process writes at a time."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.errors import ExportError, RunError
from neuropbr_core.evaluation.summary import load_record
from neuropbr_core.exporting import export
from neuropbr_core.lock import FolderLock
from neuropbr_core.model import weights_digest
from neuropbr_core.recipe import dump_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs import evaluate
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.run import plan, run
from neuropbr_core.training.checkpoints.saving import read_state
from neuropbr_core.training.loop.trainer import Trainer

MakeRecipe = Callable[..., Recipe]
QUIET = ("observers={progress: null, grid: null, tensorboard: null}", "training.epochs=1")
NOTHING_LEFT = "Nothing is left to do: "


def resumed(recipe: Recipe, name: str) -> list[str]:
    """What a resumed run tells."""
    with reporting_to(RecordingReporter()) as told:
        run(recipe, run_name=name, resume=True)
    return told.lines


def never(*_: object, **options: object) -> Any:
    raise AssertionError("this stage is done")


def broken(*_: object, **options: object) -> Any:
    raise KeyboardInterrupt


def test_a_finished_run_has_nothing_left_to_do(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe(*QUIET)
    folder = run(recipe, run_name="whole")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    for name in ("fit", "resume"):
        monkeypatch.setattr(Trainer, name, never)
    monkeypatch.setattr(evaluate, "evaluate_samples", never)
    lines = resumed(recipe, "whole")
    assert lines == [
        f"train     {folder}: is trained to the end of 1 epochs",
        f"evaluate  {folder / 'summary.json'}: is there, or nothing was held back",
        f"export    {folder / 'exports' / 'torchscript'}: neuropbr:torchscript, is there",
        f"report    {folder / 'report.html'}: is there",
        f"{NOTHING_LEFT}{folder}",
    ]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    file = folder.parent / "recipe.yaml"
    file.write_text(dump_recipe(recipe))
    result = CliRunner().invoke(root, ["run", str(file), "--run-name", "whole", "--resume"])
    assert result.exit_code == 0
    assert NOTHING_LEFT in result.stderr


def test_an_evaluation_that_was_interrupted_is_done_again_alone(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(*QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "evaluate_samples", broken)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, run_name="half")
    run_folder = RunFolder(Path(recipe.training.runs_dir) / "half")
    assert not run_folder.summary.exists()
    monkeypatch.setattr(Trainer, "fit", never)
    lines = resumed(recipe, "half")
    assert f"Skipping train: {run_folder.path}: is trained to the end of 1 epochs" in lines
    assert any(line.startswith("Exported ") for line in lines)
    best = weights_digest(run_folder.checkpoints.open("best"))
    assert load_record(run_folder.summary).weights == best
    assert resumed(recipe, "half")[-1].startswith(NOTHING_LEFT)


def test_an_export_that_failed_is_done_again_alone(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe(*QUIET, "export.second={use: torchscript, resolution: 48}")
    verify_program = export.verify_program

    def refuse(subject: Any, *details: Any) -> Any:
        if not subject.changes:
            raise ExportError("refused")
        return verify_program(subject, *details)

    with monkeypatch.context() as patch:
        patch.setattr(export, "verify_program", refuse)
        with pytest.raises(ExportError, match=r"export\.torchscript: refused"):
            run(recipe, run_name="half")
    monkeypatch.setattr(Trainer, "fit", never)
    monkeypatch.setattr(evaluate, "evaluate_samples", never)
    lines = resumed(recipe, "half")
    exported = [line for line in lines if line.startswith("Exported ")]
    assert len(exported) == 1
    assert "torchscript.pt" in exported[0]
    assert resumed(recipe, "half")[-1].startswith(NOTHING_LEFT)


def test_a_longer_run_is_scored_and_exported_again(make_recipe: MakeRecipe) -> None:
    folder = run(make_recipe(*QUIET), run_name="longer")
    lines = resumed(make_recipe(*QUIET, "training.epochs=3"), "longer")
    assert "Resuming after epoch 1 of 3" in lines
    best = RunFolder(folder).checkpoints.open("best")
    record = json.loads((folder / "exports" / "torchscript.pt.verify.json").read_text())
    assert load_record(folder / "summary.json").weights == record["metadata"]["weights"] == weights_digest(best)
    assert RunFolder(folder).recipe().training.epochs == 3


def test_a_dry_run_tells_what_is_done_and_what_is_not(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(*QUIET)
    folder = run(recipe, run_name="dry")
    (folder / "summary.json").unlink()
    lines = plan(recipe, folder, resume=True).lines()
    assert lines[1:] == [
        f"train     {folder}: is trained to the end of 1 epochs",
        f"evaluate  {folder / 'summary.json'}: the best checkpoint is scored on what was held back",
        f"export    {folder / 'exports' / 'torchscript'}: neuropbr:torchscript, is there",
        f"report    {folder / 'report.html'}: is written",
    ]
    lines = plan(recipe, folder, overwrite=True).lines()
    assert lines[1] == "data      6 samples to train on, 2 held back"
    assert lines[2:] == [
        f"train     {folder}: will be trained, in place of the run that is there, to the end of 1 epochs",
        f"evaluate  {folder / 'summary.json'}: the best checkpoint is scored on what was held back",
        f"export    {folder / 'exports' / 'torchscript'}: neuropbr:torchscript, is exported",
        f"report    {folder / 'report.html'}: is written",
    ]


@pytest.mark.parametrize("flags", [{"resume": True}, {"overwrite": True}], ids=["resume", "overwrite"])
def test_a_run_that_is_being_written_is_left_alone(make_recipe: MakeRecipe, flags: dict[str, bool]) -> None:
    recipe = make_recipe(*QUIET, "export.torchscript=null")
    folder = run(recipe, run_name="busy")
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    with (
        FolderLock(folder),
        pytest.raises(RunError, match=r"busy: process \d+ on .* \(it started \d+ s ago.* writes this"),
    ):
        run(recipe, run_name="busy", **flags)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before


def test_a_run_that_was_started_meanwhile_is_not_trained_again(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process starts and finishes the run between this one's look at the folder and its lock."""
    recipe = make_recipe(*QUIET, "export.torchscript=null")
    acquire = FolderLock.acquire

    def late(self: FolderLock) -> None:
        monkeypatch.setattr(FolderLock, "acquire", acquire)
        run(recipe, run_name="late")
        acquire(self)

    monkeypatch.setattr(FolderLock, "acquire", late)
    with pytest.raises(RunError, match="there is a run of that name already"):
        run(recipe, run_name="late")


@pytest.mark.slow
def test_of_eight_starts_at_once_one_trains(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(*QUIET, "export.torchscript=null", "training.epochs=20")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    program = str(Path(sys.executable).with_name("neuropbr"))
    command = [program, "run", str(tmp_path / "recipe.yaml"), "--run-name", "race"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    errors = [process.communicate(timeout=500)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1, 1, 1, 1, 1, 1], errors
    for process, error in zip(processes, errors, strict=True):
        assert process.returncode == 0 or "writes this run" in error or "a run of that name already" in error
    journal = (Path(recipe.training.runs_dir) / "race" / "metrics.jsonl").read_text()
    assert journal.count('"run_started"') == 1
    assert journal.count('"run_finished"') == 1


def test_a_run_goes_on_with_its_split_and_with_the_optimisers_new_options(make_recipe: MakeRecipe) -> None:
    folder = run(make_recipe(*QUIET, "export.torchscript=null"), run_name="changed")
    split = json.loads((folder / "provenance.json").read_text())["split"]
    lines = resumed(
        make_recipe(
            *QUIET,
            "export.torchscript=null",
            "training.epochs=2",
            "training.seed=7",
            "data.val_materials=[]",
            "data.val_ratio=0.6",
            "optimizer.weight_decay=0.3",
        ),
        "changed",
    )
    assert any(line.startswith("split: stays as it was when the run stopped") for line in lines), lines
    after = json.loads((folder / "provenance.json").read_text())["split"]
    assert (after["train"], after["val"]) == (split["train"], split["val"])
    state = read_state(folder / "checkpoints" / "epoch_0002")
    assert [group["weight_decay"] for group in state["optimizer"]["param_groups"]] == [0.3]


def test_a_run_whose_record_is_lost_goes_on_and_warns_once(make_recipe: MakeRecipe) -> None:
    folder = run(make_recipe(*QUIET, "export.torchscript=null"), run_name="lost")
    (folder / "provenance.json").unlink()
    lines = resumed(make_recipe(*QUIET, "export.torchscript=null", "training.epochs=2"), "lost")
    warnings = [line for line in lines if "provenance.json" in line]
    assert len(warnings) == 1, warnings
    assert "the run goes on from its checkpoints" in warnings[0]
    assert json.loads((folder / "provenance.json").read_text())["split"]["val"]
