"""Whole runs that go wrong: losses that are not finite, a full disk."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from neuropbr_core.errors import RunError
from neuropbr_core.recipe import dump_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.run import run
from neuropbr_core.training.loop import trainer
from neuropbr_core.training.loop.step import Stepper

MakeRecipe = Callable[..., Recipe]
QUIET = ("export.torchscript=null", "training.log_images_every_n_epochs=9")


def rows(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def spoil(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the targets of these steps (counted over the process) NaN."""
    observe = Stepper.observe
    count = iter(range(10**6))

    def spoiled(self: Stepper, prepared: Any, epoch: int) -> Any:
        if next(count) in steps:
            prepared.targets["albedo"][:] = math.nan
        return observe(self, prepared, epoch)

    monkeypatch.setattr(Stepper, "observe", spoiled)


def test_a_spoiled_step_stops_the_run_and_nothing_after_it_is_saved(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(*QUIET, "training.log_every_n_steps=3", "training.save_every_n_steps=1")
    spoil(monkeypatch, 4)
    with pytest.raises(
        RunError, match=r"loss/l1/albedo is not finite in step 2 of epoch 2 \(samples \S+, \S+\); lower"
    ):
        run(recipe, run_name="nan")
    folder = Path(recipe.training.runs_dir) / "nan"
    store = folder / "checkpoints"
    assert sorted(path.name for path in store.glob("epoch_*")) == ["epoch_0001", "epoch_0001_step_000001"]
    assert all(tensor.isfinite().all() for tensor in load_file(store / "epoch_0001" / "model.safetensors").values())
    assert "not finite" in rows(folder, "run_failed")[0]["message"]


def test_skipping_goes_on_and_counts(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe(*QUIET, "training.on_nonfinite=skip", "training.ema=0.9")
    spoil(monkeypatch, 1, 4)
    folder = run(recipe, run_name="skip")
    assert [row.get("skipped") for row in rows(folder, "train")] == [None, 1, None, None, 1, None]
    assert [row["skipped"] for row in rows(folder, "epoch")] == [1, 1]
    saved = load_file(folder / "checkpoints" / "epoch_0002" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())


def test_skipping_gives_up(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe(*QUIET, "training.on_nonfinite=skip", "training.max_skips=2")
    spoil(monkeypatch, 1, 2, 3)
    with pytest.raises(RunError, match="2 steps in a row were not finite, the last one step 3 of epoch 1"):
        run(recipe, run_name="skip")


def test_weights_that_are_not_finite_are_not_saved(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update of the last step before a checkpoint is spoiled; its losses are still fine."""
    step = Stepper.step
    count = iter(range(100))

    def spoiled(self: Stepper, *details: Any, **options: Any) -> Any:
        result = step(self, *details, **options)
        if next(count) == 4:
            with torch.no_grad():
                next(iter(self.generator.parameters())).fill_(math.inf)
        return result

    monkeypatch.setattr(Stepper, "step", spoiled)
    recipe = make_recipe(*QUIET, "training.save_every_n_steps=1")
    with pytest.raises(RunError, match="the weights are no longer finite after 5 steps, so they are not saved"):
        run(recipe, run_name="weights")
    store = Path(recipe.training.runs_dir) / "weights" / "checkpoints"
    assert sorted(path.name for path in store.glob("epoch_*")) == ["epoch_0001", "epoch_0001_step_000001"]


def test_a_run_out_of_memory_says_what_helps(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(Stepper, "step", starve)
    with pytest.raises(
        RunError, match=r"out of memory on cpu in step 1 of epoch 1 \(CUDA out of .*\n.*\n  \w+\."
    ) as caught:
        run(make_recipe(*QUIET, "data.crop_size=null"), run_name="starved")
    assert "training.batch_size=1 (now 2) with training.accumulate=2 (now 1)" in str(caught.value)


def test_a_validation_out_of_memory_is_told_from_a_step(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*_: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(trainer, "validate", starve)
    with pytest.raises(RunError, match="in the validation of epoch 1, which predicts whole frames") as caught:
        run(make_recipe(*QUIET), run_name="starved")
    assert "training.batch_size=1 (now 2)" in str(caught.value)
    assert "crop_size" not in str(caught.value)


def test_steps_see_different_numbers_of_views(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    observe = Stepper.observe

    def watch(self: Stepper, prepared: Any, epoch: int) -> Any:
        seen.append(prepared.views.shape[1])
        assert prepared.directions.shape[1] == prepared.visible.shape[1] == seen[-1]
        return observe(self, prepared, epoch)

    monkeypatch.setattr(Stepper, "observe", watch)
    run(make_recipe(*QUIET, "data.random_views=true", "training.epochs=4"), run_name="some")
    assert set(seen) == {1, 2, 3}


FULL = """
import resource, signal, sys
from neuropbr_core.recipe import load_recipe
from neuropbr_core.training.checkpoints.saving import Saver
from neuropbr_core.runs.run import run

save = Saver.save

def save_on_a_full_disk(self, progress, **details):
    if progress.epoch == 2:  # files end after 20 kB from here on, as they do on a disk that is full
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    return save(self, progress, **details)

Saver.save = save_on_a_full_disk
try:
    run(load_recipe(sys.argv[1]), run_name="full")
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_a_full_disk_while_saving_leaves_the_checkpoint_before(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(*QUIET, "observers.journal=null")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "recipe.yaml")],
        check=False,
        capture_output=True,
        text=True,
        timeout=400,
    )
    last = result.stdout.splitlines()[-1]
    assert last.startswith("CheckpointError: "), result.stdout + result.stderr
    assert "epoch_0002: could not be saved" in last
    assert "earlier checkpoints are untouched" in last
    store = Path(recipe.training.runs_dir) / "full" / "checkpoints"
    assert [path.name for path in store.glob("*epoch_*")] == ["epoch_0001"]
    folder = run(recipe, run_name="full", resume=True)
    assert load_file(folder / "checkpoints" / "epoch_0002" / "model.safetensors")
