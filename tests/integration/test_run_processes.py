"""Runs of two processes on the CPU, started by the command itself and by torchrun."""

import json
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

from neuropbr_core.errors import DeviceError
from neuropbr_core.recipe import dump_recipe, load_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.run import run
from neuropbr_core.training.fabric import make_fabric

MakeRecipe = Callable[..., Recipe]
BIN = Path(sys.executable).parent
PLAIN = (
    "export.torchscript=null",
    "training.log_images_every_n_epochs=99",
    "data.val_materials=[acg_Bricks102, t3_Pebbles_025, t3_Sci-Fi_Wall_014]",  # three do not divide by two
    "data.alignment=none",
    "data.repeats=2",
    "model.view_conditioning=none",
    "model.reflectance_profile=false",
    "model.albedo=direct",
    "optimizer.scheduler=none",
    "optimizer.warmup_epochs=0",
    "optimizer.lr=1e-3",
)
GAN = "losses.gan={layers: 2, width: 4, start_epoch: 2, critic_steps: 2}"


def rows(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def launch(recipe: Recipe, file: Path, name: str, *flags: str, by: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    file.write_text(dump_recipe(recipe))
    command = [*by, str(BIN / "neuropbr"), "run", str(file), "--run-name", name, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=500)
    assert process.returncode == code, out + err
    return out, err


def assert_equal_runs(one: Path, two: Path) -> None:
    """Losses and weights up to rounding."""
    for event in ("train", "epoch", "validation"):
        for a, b in zip(rows(one, event), rows(two, event), strict=True):
            keys = [key for key in a if key not in ("time", "seconds", "event")]
            assert [b[key] for key in keys] == pytest.approx([a[key] for key in keys], rel=2e-3, abs=2e-5)
    first, second = (load_file(folder / "checkpoints" / "epoch_0002" / "model.safetensors") for folder in (one, two))
    for name, weights in first.items():
        torch.testing.assert_close(second[name], weights, rtol=1e-3, atol=1e-5)


def test_two_processes_train_like_one_with_the_same_global_batch(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    one = make_recipe(*PLAIN, GAN, "training.batch_size=4")
    two = make_recipe(*PLAIN, GAN, "training.batch_size=2", "training.devices=2")
    process = launch(two, tmp_path / "two.yaml", "two")
    single = run(one, run_name="one")
    _, err = finish(process)
    double = single.with_name("two")
    assert len(rows(double, "train")) == 4
    assert_equal_runs(single, double)
    assert err.count("Run finished") == 1
    assert rows(double, "run_started")[0]["facts"]["processes"] == "2"
    assert len(rows(double, "run_started")) == 1


@pytest.mark.slow
def test_accumulation_under_torchrun_equals_one_process(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Two processes of torchrun, two batches a step, against one process with the whole batch."""
    one = make_recipe(*PLAIN, "training.batch_size=8", "training.ema=0.5")
    two = make_recipe(*PLAIN, "training.batch_size=2", "training.accumulate=2", "training.ema=0.5")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    process = launch(two, tmp_path / "two.yaml", "two", by=torchrun)
    single = run(one, run_name="one")
    finish(process)
    double = single.with_name("two")
    first, second = rows(single, "train")[0], rows(double, "train")[0]
    assert second["loss/total"] == pytest.approx(first["loss/total"], rel=1e-4)
    assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-3)


@pytest.mark.slow
def test_a_signal_to_the_first_process_stops_both_and_they_resume(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(*PLAIN, "training.devices=2", "training.epochs=200", "training.log_every_n_steps=2")
    folder = Path(recipe.training.runs_dir) / "two"
    process = launch(recipe, tmp_path / "two.yaml", "two")
    for _ in range(2400):
        if (folder / "metrics.jsonl").is_file() and len(rows(folder, "train")) > 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = finish(process, 143)
    assert err.count("Stopped by SIGTERM after ") == 1
    assert "Traceback" not in err
    done = rows(folder, "run_failed")[0]["step"] // 2
    longer = make_recipe(*PLAIN, "training.devices=2", f"training.epochs={done + 1}", "training.log_every_n_steps=2")
    finish(launch(longer, tmp_path / "two.yaml", "two", "--resume"))
    assert [row["step"] for row in rows(folder, "train")] == list(range(2, 2 * done + 3, 2))


FAILING = """
import os, sys
from neuropbr_core.cli import main
from neuropbr_core.errors import DataError
from neuropbr_core.training.loop.step import Stepper

def fail(self, *details, **options):
    raise DataError("sample x could not be loaded")

if os.environ.get("LOCAL_RANK", "0") == os.environ["NBR_FAILS"]:
    Stepper.step = fail
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_fails_ends_the_others_and_is_heard(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    recipe = make_recipe(*PLAIN, "training.devices=2")
    (tmp_path / "two.yaml").write_text(dump_recipe(recipe))
    (tmp_path / "start.py").write_text(FAILING)
    monkeypatch.setenv("NBR_FAILS", str(rank))
    command = [sys.executable, str(tmp_path / "start.py"), "run", str(tmp_path / "two.yaml"), "--run-name", "two"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert result.returncode in (1, -signal.SIGKILL), result.stderr
    assert result.stderr.count("error: sample x could not be loaded") == 1
    if result.returncode == 1 and rank == 1:
        assert "error: process 2 of 2 failed with exit code 1; its message is above" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.strategy=fsdp"], "training.strategy: fsdp needs CUDA devices, and this run is on cpu; write ddp"),
        (["training.sync_batch_norm=true", "training.devices=2"], "training.sync_batch_norm: needs CUDA devices"),
    ],
)
def test_what_the_devices_cannot_do_is_refused(settings: list[str], message: str) -> None:
    recipe = load_recipe("neuropbr:quickstart", ["training.device=cpu", *settings])
    with pytest.raises(DeviceError, match=message):
        make_fabric(recipe.training)


def test_torchrun_and_recipe_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    recipe = load_recipe("neuropbr:quickstart", ["training.device=cpu", "training.devices=3"])
    with pytest.raises(DeviceError, match=r"training\.devices: found 3, but torchrun started 2 processes here"):
        make_fabric(recipe.training)
