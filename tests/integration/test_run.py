"""Whole runs on small real captures: what they leave behind, resume, and the ways they can fail."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from neuropbr_core.contracts import EpochSummary, Observer
from neuropbr_core.errors import DataError, ExportError, ModelError, RunError
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry import default_registry
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs.run import run
from neuropbr_core.training.loop.trainer import Trainer

MakeRecipe = Callable[..., Recipe]


def rows(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def without_clock(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in ("time", "seconds")} for row in found]


def weights(folder: Path, name: str = "epoch_0002") -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / name / "model.safetensors")


def interrupt_before_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Ctrl-C when the epoch is about to start."""
    train = Trainer._train_epoch

    def interrupted(self: Trainer, current: int) -> EpochSummary:
        if current == epoch:
            raise KeyboardInterrupt
        return train(self, current)

    monkeypatch.setattr(Trainer, "_train_epoch", interrupted)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


def test_a_run_leaves_everything_that_it_promises(make_recipe: MakeRecipe, lines: list[str]) -> None:
    with reporting_to(RecordingReporter()) as told:
        folder = run(make_recipe(), run_name="whole")
    lines = told.lines
    store = folder / "checkpoints"
    assert (store / "latest").read_text(encoding="utf-8").strip() == "epoch_0002"
    assert (store / "best").read_text(encoding="utf-8").strip() in ("epoch_0001", "epoch_0002")
    assert len({file.stat().st_mode for file in (store / "epoch_0002").iterdir()}) == 1  # all may be read alike
    assert len(rows(folder, "train")) == 6
    assert len(rows(folder, "validation")) == 2
    grids = sorted((folder / "images").glob("*.png"))
    assert len(grids) == 4  # two epochs, two held-back materials
    with Image.open(grids[0]) as grid:
        assert grid.width > 4 * 32
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["split"]["val"] == ["acg_Bricks102", "t3_Sci-Fi_Wall_014"]
    assert {(part["kind"], part["name"]) for part in provenance["components"]} >= {
        ("encoder", "unet"),
        ("fusion", "concat"),
        ("exporter", "torchscript"),
    }
    verified = json.loads((folder / "exports" / "torchscript.pt.verify.json").read_text(encoding="utf-8"))
    assert all(row["psnr"] >= 90 for row in verified["maps"].values())
    text = "\n".join(lines)
    for baseline in ("training mean", "best constant", "metallic always 0", "median of the aligned views", "flat"):
        assert baseline in text, text
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["samples"] == 2


def test_a_gan_joins_when_its_epoch_comes(make_recipe: MakeRecipe) -> None:
    gan = "losses.gan={weight: 0.05, start_epoch: 2, layers: 2, width: 8}"
    folder = run(make_recipe(gan, "export.torchscript=null"), run_name="gan")
    critic = [any(key.startswith("critic/") for key in row) for row in rows(folder, "train")]
    assert critic == [False] * 3 + [True] * 3


@pytest.mark.parametrize("settings", [(), ("losses.gan={layers: 2, width: 8}", "training.precision=bf16")])
def test_an_interrupted_run_continues_as_if_it_had_not_stopped(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    recipe = make_recipe("export.torchscript=null", "training.epochs=3", "optimizer.scheduler=plateau", *settings)
    whole = run(recipe, run_name="whole")
    with monkeypatch.context() as patch:
        interrupt_before_epoch(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, run_name="stopped")
    stopped = run(recipe, run_name="stopped", resume=True)
    for event in ("train", "epoch", "validation"):
        assert without_clock(rows(stopped, event)) == without_clock(rows(whole, event))
    first, second = weights(whole, "epoch_0003"), weights(stopped, "epoch_0003")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_damaged_newest_checkpoint_falls_back_and_says_so(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("export.torchscript=null", "training.epochs=3", "training.save_every_n_epochs=1")
    with monkeypatch.context() as patch:
        interrupt_before_epoch(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, run_name="damaged")
    folder = Path(recipe.training.runs_dir) / "damaged"
    file = folder / "checkpoints" / "epoch_0002" / "training_state.pt"
    file.write_bytes(file.read_bytes()[:100])
    with reporting_to(RecordingReporter()) as told:
        run(recipe, run_name="damaged", resume=True)
    said = told.lines
    assert any("epoch_0002" in line and "damaged" in line for line in said)
    assert any("Resuming after epoch 1 of 3" in line for line in said)
    assert not any("the data are not those" in line for line in said)
    assert weights(folder, "epoch_0003")


def test_other_data_are_noticed_when_a_run_goes_on(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe("export.torchscript=null", "training.epochs=2", "training.save_every_n_epochs=1")
    with monkeypatch.context() as patch:
        interrupt_before_epoch(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, run_name="moved")
    record = Path(recipe.training.runs_dir) / "moved" / "provenance.json"
    document = json.loads(record.read_text(encoding="utf-8"))
    recorded = document["data"]
    record.write_text(json.dumps({**document, "data": "0" * len(recorded)}), encoding="utf-8")
    with reporting_to(RecordingReporter()) as told:
        run(recipe, run_name="moved", resume=True)
    assert any("the data are not those that the run stopped with" in line for line in told.lines)
    assert json.loads(record.read_text(encoding="utf-8"))["data"] == recorded


def test_periodic_checkpoints_are_kept_and_others_are_not(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("export.torchscript=null", "training.epochs=5", "training.save_every_n_epochs=2")
    folder = run(recipe, run_name="kept")
    store = folder / "checkpoints"
    kept = {path.name for path in store.glob("epoch_*")}
    best = (store / "best").read_text(encoding="utf-8").strip()
    assert kept == {"epoch_0002", "epoch_0004", "epoch_0005", best}


def test_a_taken_name_is_refused_and_overwrite_replaces_only_runs(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("export.torchscript=null", "training.epochs=1")
    folder = run(recipe, run_name="taken")
    with pytest.raises(RunError, match=r"--resume.*--overwrite.*--run-name"):
        run(recipe, run_name="taken")
    (folder / "mine.txt").write_text("kept until now", encoding="utf-8")
    run(recipe, run_name="taken", overwrite=True)
    assert not (folder / "mine.txt").exists()
    other = folder.parent / "photos"
    other.mkdir()
    (other / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(RunError, match=r"is no run .*, so --overwrite will not remove it"):
        run(recipe, run_name="photos", overwrite=True)
    assert (other / "holiday.jpg").read_bytes() == b"dear"
    with pytest.raises(RunError, match="resumed or overwritten, not both"):
        run(recipe, run_name="taken", resume=True, overwrite=True)
    assert weights(folder, "epoch_0001")
    with pytest.raises(RunError, match="no run to resume"):
        run(recipe, run_name="nowhere", resume=True)


def test_a_bad_dataset_leaves_the_run_that_was_to_be_replaced(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    folder = run(make_recipe("export.torchscript=null", "training.epochs=1"), run_name="kept")
    with pytest.raises(DataError, match="no samples found"):
        run(make_recipe(f"data.root={tmp_path / 'gone'}"), run_name="kept", overwrite=True)
    assert weights(folder, "epoch_0001")


def test_a_taken_name_is_refused_before_anything_is_rendered(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run(make_recipe("export.torchscript=null", "training.epochs=1"), run_name="early")
    render = "data.synthesize={materials: 'neuropbr:examples/materials', samples: 8, size: 32}"
    with pytest.raises(RunError, match="a run of that name already"):
        run(make_recipe(render, f"data.root={tmp_path / 'new'}"), run_name="early")
    assert not (tmp_path / "new").exists()


def test_without_held_back_materials_a_starting_gan_does_not_hide_the_best(make_recipe: MakeRecipe) -> None:
    settings = ("export.torchscript=null", "data.val_ratio=0", "data.val_materials=[]", "training.epochs=3")
    gan = "losses.gan={weight: 1000, start_epoch: 2, layers: 2, width: 8}"
    folder = run(make_recipe(*settings, gan), run_name="late")
    scores = {row["epoch"]: row["loss/reconstruction"] for row in rows(folder, "epoch")}
    best = (folder / "checkpoints" / "best").read_text(encoding="utf-8").strip()
    assert best == f"epoch_{min(scores, key=lambda epoch: scores[epoch]):04d}"
    assert rows(folder, "epoch")[1]["loss/total"] != pytest.approx(scores[2])


def test_resume_refuses_another_network(make_recipe: MakeRecipe) -> None:
    run(make_recipe("export.torchscript=null", "training.epochs=1"), run_name="same")
    other = make_recipe("export.torchscript=null", "model.decoder.head_channels=4")
    with pytest.raises(RunError, match="section `model` differs"):
        run(other, run_name="same", resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_by_name(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(
        "optimizer={name: sgd, lr: 1000}",
        "losses.l1.weight=1e9",
        "optimizer.warmup_epochs=0",
        "training.grad_clip_norm=0",
    )
    with pytest.raises(RunError, match=r"\S+ is not finite in step \d+ of epoch \d.*clean/sample_"):
        run(recipe, run_name="nan")


def test_a_size_that_the_encoder_cannot_take_is_refused_before_training(make_recipe: MakeRecipe) -> None:
    with pytest.raises(RunError, match=r"data\.crop_size: found 17, .* multiples of 2; the nearest is 16"):
        run(make_recipe("data.crop_size=17"), run_name="odd")


def test_without_held_back_materials_best_is_by_training_loss(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("export.torchscript=null", "data.val_ratio=0", "data.val_materials=[]")
    folder = run(recipe, run_name="all")
    assert (folder / "checkpoints" / "best").exists()
    assert not (folder / "summary.json").exists()


class Clumsy(Observer):
    """Fails on every log."""

    calls = 0

    def metrics_logged(self, *_: object) -> None:
        """Drop everything."""
        Clumsy.calls += 1
        raise ZeroDivisionError("dropped it")


def test_an_observer_that_fails_is_reported_once_and_left_out(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = default_registry()
    create = registry.create

    def clumsy(kind: str, use: str, options: object, **context: object) -> object:
        return Clumsy() if use.endswith(":progress") else create(kind, use, options, **context)

    monkeypatch.setattr(registry, "create", clumsy)
    with reporting_to(RecordingReporter()) as told:
        folder = run(make_recipe("export.torchscript=null"), run_name="clumsy")
    said = told.lines
    assert [line for line in said if line.startswith("warning: observer")] == [
        (
            "warning: observer progress failed in metrics_logged and is left out from here on: "
            "ZeroDivisionError: dropped it"
        )
    ]
    assert Clumsy.calls == 1
    assert len(rows(folder, "train")) == 6


def test_an_export_that_differs_from_the_model_is_not_kept_and_others_are(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = default_registry()
    create = registry.create
    spoilt: list[object] = []

    def spoiled(kind: str, use: str, options: object, **context: object) -> Any:
        made = create(kind, use, options, **context)
        if kind == "exporter" and not spoilt:
            spoilt.append(made)
            load = made.load

            def darker(path: Path) -> Callable[..., dict[str, torch.Tensor]]:
                inner = load(path)
                return lambda inputs: {name: value * 0.99 for name, value in inner(inputs).items()}

            made.load = darker
        return made

    monkeypatch.setattr(registry, "create", spoiled)
    recipe = make_recipe(
        "training.epochs=1", "export.torchscript={}", "export.second={use: torchscript, resolution: 48}"
    )
    differs = r"^export\.torchscript: the exported \w+ differs from the model's: .* the file was not kept$"
    with pytest.raises(ExportError, match=differs):
        run(recipe, run_name="spoiled")
    kept = {path.name for path in (Path(recipe.training.runs_dir) / "spoiled" / "exports").iterdir()}
    assert kept == {"second-48px.pt", "second-48px.pt.verify.json"}


def test_an_unsuitable_size_leaves_the_run_that_was_to_be_replaced(make_recipe: MakeRecipe) -> None:
    folder = run(make_recipe("export.torchscript=null", "training.epochs=1"), run_name="kept")
    with pytest.raises(RunError, match="multiples of 2"):
        run(make_recipe("data.crop_size=17"), run_name="kept", overwrite=True)
    with pytest.raises(ModelError, match="needs at least 192"):
        run(make_recipe("losses.gan={}"), run_name="kept", overwrite=True)
    assert weights(folder, "epoch_0001")
