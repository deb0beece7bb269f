"""Runs that start from other weights than random ones: an earlier checkpoint, another run, ImageNet."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from neuropbr_core.cli import root
from neuropbr_core.errors import CheckpointError, RunError
from neuropbr_core.recipe import dump_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs.run import plan, run
from neuropbr_core.training.checkpoints.store import CheckpointStore

QUIET = ("observers.tensorboard=null", "observers.grid=null", "export.torchscript=null")
MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def trained(module_recipe: MakeRecipe) -> Path:
    """A run of three epochs that keeps all of its checkpoints."""
    return run(module_recipe(*QUIET, "training.epochs=3", "training.save_every_n_epochs=1", "losses.gan={layers: 1}"))


def told(recipe: Recipe, **arguments: object) -> tuple[Path, list[str]]:
    with reporting_to(RecordingReporter()) as reporter:
        folder = run(recipe, **arguments)  # type: ignore[arg-type]
    return folder, reporter.lines


def test_an_earlier_checkpoint_is_continued_and_later_ones_are_kept(trained: Path, module_recipe: MakeRecipe) -> None:
    recipe = module_recipe(*QUIET, "training.epochs=3", "training.save_every_n_epochs=1", "losses.gan={layers: 1}")
    checkpoints = trained / "checkpoints"
    before = load_file(checkpoints / "epoch_0003" / "model.safetensors")
    lines = plan(recipe, trained, resume="epoch_0001").lines()
    assert any(
        "continued from epoch_0001, with later checkpoints kept aside, to the end of 3" in line for line in lines
    )
    _, lines = told(recipe, run_name=trained.name, resume=str(checkpoints / "epoch_0001"))
    assert f"Later checkpoints are kept in {checkpoints / 'aside_1'}" in lines
    assert "Resuming after epoch 1 of 3" in lines
    assert sorted(path.name for path in (checkpoints / "aside_1").iterdir()) == ["epoch_0002", "epoch_0003"]
    # The same training once more: exact resume gives the same weights.
    after = load_file(checkpoints / "epoch_0003" / "model.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert CheckpointStore(checkpoints).pointed("latest") == "epoch_0003"
    # The run's own recipe starts a run and does not go back once more.
    assert "resume_from: null" in (trained / "recipe.yaml").read_text()


def test_a_checkpoint_that_is_not_there_changes_nothing(trained: Path, module_recipe: MakeRecipe) -> None:
    recipe = module_recipe(*QUIET, "training.epochs=3", "losses.gan={layers: 1}")
    with pytest.raises(
        CheckpointError, match=r"there is no checkpoint 'epoch_0009'; there are: best, latest, epoch_00"
    ):
        run(recipe, run_name=trained.name, resume="epoch_0009")
    with pytest.raises(CheckpointError, match=r"elsewhere/epoch_0001: is no checkpoint of the run .* give --init-from"):
        run(recipe, run_name=trained.name, resume="elsewhere/epoch_0001")


def test_the_command_takes_a_checkpoint_or_none(trained: Path, tmp_path: Path) -> None:
    recipe = str(trained / "recipe.yaml")

    def planned(*words: str) -> str:
        result = CliRunner().invoke(root, ["run", *words, "--run-name", trained.name, "--dry-run"])
        assert result.exit_code == 0, result.output
        return result.output

    assert "is trained to the end" in planned(recipe, "--resume")
    assert "is trained to the end" in planned("--resume", recipe)
    assert "continued from epoch_0002" in planned(recipe, "--resume", "epoch_0002")
    assert "continued from epoch_0002" in planned(recipe, "--set", "training.resume_from=epoch_0002")
    assert "in place of the run" in planned(recipe, "--set", "training.resume_from=epoch_0002", "--overwrite")


def test_a_run_starts_from_the_weights_of_another_and_says_what_fitted(
    trained: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(*QUIET, "training.epochs=1", "losses.gan={layers: 1}", f"training.init_from={trained}")
    lines = plan(recipe, tmp_path / "runs" / "tuned").lines()
    assert any("starts from the weights of" in line for line in lines)
    folder, lines = told(recipe, run_name="tuned")
    (line,) = [line for line in lines if line.startswith("Starting from")]
    assert line.split(": ")[1].split()[0] == line.split("model's ")[1].split()[0]  # all of them
    assert "  the critic of gan is taken over" in lines
    best = CheckpointStore.of_run(trained).open("best")
    assert json.loads((folder / "provenance.json").read_text())["init_from"]["checkpoint"] == str(best)
    # Another network: what fits is taken, the rest is named.
    wider = make_recipe(
        *QUIET,
        "training.epochs=1",
        "model.decoder.channels=[12]",
        "losses.gan={layers: 2}",
        f"training.init_from={best / 'model.safetensors'}",
    )
    _, lines = told(wider, run_name="wider")
    assert any("have another shape there and start anew: decoder." in line for line in lines)
    assert "  the critic of gan starts anew" in lines


def test_weights_that_do_not_fit_are_refused_before_an_older_run_is_replaced(
    trained: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="is no run with a checkpoint"):
        run(make_recipe(*QUIET, "training.init_from=nowhere"))
    save_file({"other.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    recipe = make_recipe(
        *QUIET,
        f"training.init_from={tmp_path / 'model.safetensors'}",
        f"training.runs_dir={trained.parent}",
        "losses.gan={layers: 1}",
    )
    with pytest.raises(CheckpointError, match=r"no weight fits the recipe's model; `neuropbr recipe diff` shows"):
        run(recipe, run_name=trained.name, overwrite=True)
    assert (trained / "checkpoints" / "latest").is_file()


def test_an_encoder_that_would_stay_random_is_refused(trained: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    frozen = ("model.encoder={use: resnet, variant: resnet18, stem_stride: 2, freeze: true}", "data.crop_size=32")
    with pytest.raises(RunError, match=r"model.encoder.freeze: freezes random weights .* --init-from RUN"):
        plan(make_recipe(*QUIET, *frozen, "model.decoder.channels=null"), tmp_path / "run")
    frozen = (*frozen, "model.decoder.channels=null")
    plan(make_recipe(*QUIET, *frozen, f"training.init_from={trained}"), tmp_path / "run")
    assert dump_recipe(make_recipe(*QUIET)).count("init_from: null") == 1
