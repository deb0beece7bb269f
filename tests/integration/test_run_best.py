"""Which checkpoint is the best, whatever happens to the run or to its files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs.run import run
from neuropbr_core.training.checkpoints.store import BEST, CheckpointStore
from neuropbr_core.training.loop import trainer
from neuropbr_core.training.loop.schedule import LearningRates

MakeRecipe = Callable[..., Recipe]
QUIET = ("export.torchscript=null", "training.log_images_every_n_epochs=9")


def score(monkeypatch: pytest.MonkeyPatch, losses: dict[int, float]) -> None:
    """Let validation find these losses, by epoch from 1; an epoch that is not named interrupts the run."""
    validate = trainer.validate

    def scored(generator: Any, stepper: Any, dataset: Any, recipe: Any, epoch: int, **options: Any) -> Any:
        if epoch + 1 not in losses:
            raise KeyboardInterrupt
        result = validate(generator, stepper, dataset, recipe, epoch, **options)
        return replace(result, metrics={**result.metrics, "loss": losses[epoch + 1]})

    monkeypatch.setattr(trainer, "validate", scored)


def interrupted(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, losses: dict[int, float]) -> CheckpointStore:
    """The checkpoints of a run that was interrupted after the epochs of `losses`."""
    with monkeypatch.context() as patch:
        score(patch, losses)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, run_name="best")
    return CheckpointStore(Path(recipe.training.runs_dir) / "best" / "checkpoints")


def test_the_best_is_kept_whatever_epochs_are_saved(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    score(monkeypatch, {1: 3.0, 2: 1.0, 3: 2.0, 4: 5.0})
    recipe = make_recipe(*QUIET, "training.epochs=4", "training.save_every_n_epochs=99")
    store = CheckpointStore(run(recipe, run_name="best") / "checkpoints")
    assert store.pointed(BEST) == "epoch_0002"
    assert store.names() == ["epoch_0002", "epoch_0004"]


def test_save_best_only_keeps_no_periodic_ones(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    score(monkeypatch, {1: 3.0, 2: 1.0, 3: 2.0, 4: 5.0})
    recipe = make_recipe(*QUIET, "training.epochs=4", "training.save_every_n_epochs=1", "training.save_best_only=true")
    store = CheckpointStore(run(recipe, run_name="best") / "checkpoints")
    assert store.names() == ["epoch_0002", "epoch_0004"]


def test_a_run_killed_before_it_named_the_best_names_it_on_resume(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(*QUIET, "training.epochs=3")
    point = CheckpointStore.point

    def killed(store: CheckpointStore, pointer: str, name: str) -> None:
        if pointer == BEST and name == "epoch_0002":
            raise KeyboardInterrupt
        point(store, pointer, name)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "point", killed)
        store = interrupted(patch, recipe, {1: 3.0, 2: 1.0})
    assert store.pointed(BEST) == "epoch_0001"
    score(monkeypatch, {3: 2.0})
    run(recipe, run_name="best", resume=True)
    assert store.pointed(BEST) == "epoch_0002"


@pytest.mark.parametrize("spoil", ["truncated", "gone"])
def test_when_the_best_is_damaged_a_later_one_takes_its_place(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    recipe = make_recipe(*QUIET, "training.epochs=4")
    store = interrupted(monkeypatch, recipe, {1: 1.0, 2: 9.0})
    file = store.folder / "epoch_0001" / ("model.safetensors" if spoil == "truncated" else "manifest.json")
    file.write_bytes(file.read_bytes()[:100]) if spoil == "truncated" else file.unlink()
    score(monkeypatch, {3: 5.0, 4: 6.0})
    with reporting_to(RecordingReporter()) as told:
        folder = run(recipe, run_name="best", resume=True)
    said = told.lines
    assert "warning: the best checkpoint epoch_0001 is damaged or gone; the best of the epochs from here on" in (
        "\n".join(said)
    )
    assert store.pointed(BEST) == "epoch_0003"
    assert (folder / "summary.json").is_file()


def test_a_plateau_is_seen_without_held_back_materials(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, float]] = []
    validated = LearningRates.validated

    def listen(rates: LearningRates, loss: float, epoch: float, since: int = 1) -> None:
        told.append((loss, epoch))
        validated(rates, loss, epoch, since)

    monkeypatch.setattr(LearningRates, "validated", listen)
    settings = ("data.val_ratio=0", "data.val_materials=[]", "optimizer.scheduler=plateau")
    run(make_recipe(*QUIET, *settings), run_name="all")
    assert [epoch for _, epoch in told] == [1, 2]
    assert all(loss > 0 for loss, _ in told)
