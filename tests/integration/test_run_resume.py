"""Runs that are killed or asked to stop go on as if nothing had happened: real processes, real signals."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from neuropbr_core.recipe import dump_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs.run import run
from neuropbr_core.training.loop import budget
from neuropbr_core.training.loop.budget import Need
from neuropbr_core.training.loop.trainer import Trainer

MakeRecipe = Callable[..., Recipe]
LONG = ("export.torchscript=null", "training.log_images_every_n_epochs=99", "training.epochs=3")
DRAWS = (
    "model.fusion={use: vit, dim: 8, heads: 2, depth: 1, dropout: 0.3, position: none}",
    "losses.gan={layers: 2, width: 4, critic_steps: 2}",
    "losses.rendering={random: 1, mirrored: 1}",
    "data.random_views=true",
    "data.repeats=2",
    "training.accumulate=2",
    "training.ema=0.9",
)
"""Everything that draws random numbers or has a state of its own."""


def rows(folder: Path, *events: str) -> list[dict[str, Any]]:
    """Rows of a run's journal, without what a clock decides."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [row for row in map(json.loads, lines) if row["event"] in events]
    return [{key: value for key, value in row.items() if key not in ("time", "seconds")} for row in found]


def assert_same(one: Path, other: Path, checkpoint: str) -> None:
    for event in ("train", "epoch", "validation"):
        assert rows(one, event) == rows(other, event)
    first, second = (load_file(folder / "checkpoints" / checkpoint / "model.safetensors") for folder in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


KILLED = """
import os, signal, sys
from neuropbr_core.recipe import load_recipe
from neuropbr_core.runs.run import run
from neuropbr_core.training.loop.step import Stepper

step, last = Stepper.step, int(sys.argv[2])
done = 0

def deadly(self, *details, **options):
    global done
    result = step(self, *details, **options)
    done += 1
    if done == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

Stepper.step = deadly
run(load_recipe(sys.argv[1]), run_name="killed")
"""


@pytest.mark.parametrize(
    "settings", [pytest.param((), marks=pytest.mark.slow, id="plain"), pytest.param(DRAWS, id="everything")]
)
def test_a_killed_run_continues_with_the_losses_of_one_that_was_not(
    make_recipe: MakeRecipe, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    last = random.Random(seed).randint(3, 8)  # noqa: S311 (the first checkpoint follows the second step)
    print(f"killed in step {last} of 9 (seed {seed})")
    recipe = make_recipe(*LONG, "training.save_every_n_steps=2", "training.log_every_n_steps=2", *settings)
    whole = run(recipe, run_name="whole")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "recipe.yaml"), str(last)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with reporting_to(RecordingReporter()) as told:
        resumed = run(recipe, run_name="killed", resume=True)
    said = told.lines
    assert any("takes over the lock of process" in line and line.endswith("that process is gone") for line in said), (
        said
    )
    saved = (last - 1) // 2 * 2 if (last - 1) % 3 else last - 1  # every two steps, and at the end of each epoch
    assert any(line.startswith(f"Resuming after epoch {saved // 3}") for line in said), said
    assert_same(whole, resumed, "epoch_0003")


def test_an_automatic_batch_is_the_checkpoints_whatever_is_free_now(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "need", lambda *_: Need(fixed=0, sample=1000))
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: 2500)
    recipe = make_recipe(*LONG, "training.batch_size=auto", "training.save_every_n_steps=1", "training.epochs=2")
    whole = run(recipe, run_name="whole")
    train = Trainer._train_epoch

    def interrupted(self: Trainer, epoch: int) -> Any:
        if epoch == 1:
            raise KeyboardInterrupt
        return train(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, run_name="resumed")
    # Other programs have ended since: three samples would fit, and the checkpoint's two are taken.
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: 3500)
    with reporting_to(RecordingReporter()) as told:
        resumed = run(recipe, run_name="resumed", resume=True)
    assert "training.batch_size: auto is 2 here, accumulated 1 times: 2 a step" in told.lines
    assert_same(whole, resumed, "epoch_0002")
    # And others have started: one sample fits, which the run says.
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: 1500)
    longer = make_recipe(*LONG, "training.batch_size=auto", "training.save_every_n_steps=1", "training.epochs=3")
    with reporting_to(RecordingReporter()) as told:
        run(longer, run_name="resumed", resume=True)
    assert "training.batch_size: auto is 1 here, accumulated 1 times: 1 a step" in told.lines
    assert any("the checkpoint's batch of 2, accumulated 1 times, is not kept" in line for line in told.lines)


def test_a_smaller_batch_starts_the_epoch_over_and_says_so(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(*LONG, "training.save_every_n_steps=1", "training.epochs=1")
    finish = Trainer._validate

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, run_name="smaller")
    monkeypatch.setattr(Trainer, "_validate", finish)
    changed = make_recipe(*LONG, "training.epochs=1", "training.batch_size=1")
    with reporting_to(RecordingReporter()) as told:
        folder = run(changed, run_name="smaller", resume=True)
    said = told.lines
    assert any("2 steps into an epoch, but batches or samples are not those" in line for line in said)
    assert [row["step"] for row in rows(folder, "train")] == [1, 2, 3, 4, 5, 6, 7, 8]


def start(recipe: Path, *flags: str) -> "subprocess.Popen[str]":
    command = [str(Path(sys.executable).with_name("neuropbr")), "run", str(recipe), "--run-name", "stopped", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(folder: Path, step: int) -> None:
    """Wait until the run has logged a step."""
    for _ in range(6000):
        if (folder / "metrics.jsonl").is_file() and any(row["step"] >= step for row in rows(folder, "train")):
            return
        time.sleep(0.05)
    raise AssertionError("the run did not get there")


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_saves_and_says_how_to_go_on(
    make_recipe: MakeRecipe, tmp_path: Path, number: signal.Signals, code: int, name: str
) -> None:
    recipe = make_recipe(*LONG, "training.epochs=500")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    folder = Path(recipe.training.runs_dir) / "stopped"
    process = start(tmp_path / "recipe.yaml")
    wait_for_step(folder, 4)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    assert "Stopping after this step, then saving" in err
    assert f"Stopped by {name} after " in err
    assert "The same command with --resume goes on from there" in err
    assert "Traceback" not in err
    (row,) = rows(folder, "run_failed")
    assert row["error"] == "RunInterrupted"
    step = row["step"]
    saved = (folder / "checkpoints" / "latest").read_text().strip()
    assert saved == f"epoch_{step // 3:04d}" + (f"_step_{step % 3:06d}" if step % 3 else "")
    resumed = make_recipe(*LONG, f"training.epochs={step // 3 + 1}")
    run(resumed, run_name="stopped", resume=True)
    logged = [row["step"] for row in rows(folder, "train")]
    assert logged == list(range(1, 3 * (step // 3 + 1) + 1)), "every step once"


def test_a_second_ctrl_c_stops_at_once(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(*LONG)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    slow = """
import sys, time
from neuropbr_core.cli import main
from neuropbr_core.training.loop.step import Stepper

def forever(self, *details, **options):
    print("stepping", flush=True)
    while True:
        time.sleep(0.1)

Stepper.step = forever
main()
"""
    command = [sys.executable, "-c", slow, "run", str(tmp_path / "recipe.yaml"), "--run-name", "twice"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:  # what is printed while a command works goes to standard error
        if "stepping" in line:
            break
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the first one waits for the step"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "Stopping after this step" in err
    assert "Traceback" not in err
    assert not list((Path(recipe.training.runs_dir) / "twice").glob("checkpoints/epoch_*"))
