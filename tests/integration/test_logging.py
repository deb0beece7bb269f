"""What a real run tells its observers: every signal that TensorBoard promises is there and equals the journal's."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.observers.journal.journal import read_journal
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.run import run

MakeRecipe = Callable[..., Recipe]

TRAINING = {
    *("train/loss/total", "train/loss/l1/albedo", "train/loss/ssim/albedo", "train/loss/gan/generator"),
    *("train/critic/total", "train/lr", "train/critic_lr", "train/normal/angle"),
    *(f"train/{name}/{metric}" for name in MAP_NAMES for metric in ("mae", "ssim")),
}
VALIDATION = {
    *(f"validation/{name}/{metric}" for name in (*MAP_NAMES, "overall") for metric in ("psnr", "ssim", "mae")),
    *("validation/loss", "validation/normal/angle", "validation/normal/angle_median"),
    *(f"validation/normal/within_{limit}" for limit in (11, 22, 30)),
}
PICTURES = {"views", *MAP_NAMES, *(f"{name}_error" for name in MAP_NAMES)}
MATERIALS = ("acg_Bricks102", "t3_Sci-Fi_Wall_014")


@pytest.fixture(scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logging")


@pytest.fixture
def folder(_folder: Path, make_recipe: MakeRecipe) -> Path:
    """A run of two epochs with a GAN, made once."""
    gan = "losses.gan={weight: 0.05, layers: 2, width: 8}"
    if not (_folder / "signals").exists():
        recipe = make_recipe(
            gan, "export.torchscript=null", "training.log_images_every_n_epochs=2", f"training.runs_dir={_folder}"
        )
        run(recipe, run_name="signals")
    return _folder / "signals"


@pytest.fixture
def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_every_promised_scalar_is_there(events: EventAccumulator) -> None:
    assert (TRAINING | VALIDATION) - set(events.Tags()["scalars"]) == set()


def test_every_scalar_equals_the_journals(folder: Path, events: EventAccumulator) -> None:
    names = {"train": "train", "epoch": "epoch", "validation": "validation", "run_finished": "best"}
    own = {"event", "time", "epoch", "step"}
    expected: dict[str, list[tuple[int, float]]] = {}
    for row in read_journal(folder):
        for key in row.keys() - own if row["event"] in names else ():
            expected.setdefault(f"{names[row['event']]}/{key}", []).append((row["step"], row[key]))
    found: dict[str, Any] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert found.keys() == expected.keys()
    for tag, rows in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in rows], tag
        np.testing.assert_allclose([value for _, value in found[tag]], [value for _, value in rows], rtol=1e-6)


def test_pictures_come_when_they_are_due(events: EventAccumulator) -> None:
    expected = {f"grids/{material}" for material in MATERIALS}
    expected |= {f"pictures/{material}/{part}" for material in MATERIALS for part in PICTURES}
    assert set(events.Tags()["images"]) == expected
    assert {tag: [event.step for event in events.Images(tag)] for tag in expected} == {tag: [6] for tag in expected}


def test_a_steps_errors_are_those_of_its_own_prediction(folder: Path) -> None:
    rows = [row for row in read_journal(folder) if row["event"] == "train"]
    assert all(row["albedo/mae"] == pytest.approx(row["loss/l1/albedo"], rel=1e-4) for row in rows)


def test_the_console_shows_an_epoch(make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]) -> None:
    gan = "losses.gan={weight: 0.05, layers: 2, width: 8}"
    run(make_recipe(gan, "export.torchscript=null", "training.epochs=1", "observers.progress.bar=on"), run_name="shown")
    err = capsys.readouterr().err
    assert re.search(
        r"Epoch 1: 100%\|[^|]*\| 3/3 \[\d\d:\d\d<00:00, +[\d.]+(it/s|s/it), G_loss=[\d.]+, D_loss=[\d.]+\]", err
    )
    expected = (
        r"Epoch 1 Summary:\n  Generator Loss: [\d.]+\n  Discriminator Loss: [\d.]+\n"
        r"\[Validation\] Epoch 1 - Loss: [\d.]+\n.*\n"
        r"Saved checkpoint: \S+/checkpoints/epoch_0001\nSaved best model: \S+/checkpoints/epoch_0001\n"
    )
    assert re.search(expected, err)
