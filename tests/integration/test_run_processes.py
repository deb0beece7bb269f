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
from neuropbr_core.training.device import make_fabric
from neuropbr_core.training.run import run

MakeRecipe = Callable[..., Recipe]
BIN = Path(sys.executable).parent
PLAIN = (
    "export.torchscript=null",
    "training.log_images_every_n_epochs=99",
    "data.val_materials=[acg_Bricks102, t3_Pebbles_025, t3_Sci-Fi_Wall_014]",  # three do not divide by two
    "data.alignment=none",
    "data.repeats=2",
    "model.view_conditioning=none",
    "model.albedo=direct",
    "optimizer.scheduler=none",
    "optimizer.warmup_epochs=0",
    "optimizer.lr=1e-3",
)
GAN = "losses.gan={layers: 2, width: 4, start_epoch: 1, critic_steps: 2}"


def rows(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def launch(recipe: Recipe, file: Path, name: str, *flags: str, by: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    file.write_text(dump_recipe(recipe))
    command = [*by, str(BIN / "neuropbr"), "run", str(file), "--run-name", name, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=200)
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
    single = run(one, run_name="one", report=lambda _: None)
    out, _ = finish(process)
    double = single.with_name("two")
    assert len(rows(double, "train")) == 4
    assert_equal_runs(single, double)
    assert out.count("Run finished") == 1
    assert rows(double, "run_started")[0]["facts"]["processes"] == "2"
    assert len(rows(double, "run_started")) == 1


def test_accumulation_under_torchrun_equals_one_process_and_a_kill_resumes(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Two processes of torchrun, two batches a step, against one process with the whole batch."""
    one = make_recipe(*PLAIN, "training.batch_size=8")
    two = make_recipe(*PLAIN, "training.batch_size=2", "training.accumulate=2", "training.ema=0.5")
    torchrun = (
        str(BIN / "torchrun"),
        "--nproc-per-node=2",
        "--master-port=0",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
    )
    process = launch(two, tmp_path / "two.yaml", "two", by=torchrun)
    single = run(one, run_name="one", report=lambda _: None)
    finish(process)
    double = single.with_name("two")
    for a, b in zip(rows(single, "train"), rows(double, "train"), strict=True):
        assert b["loss/total"] == pytest.approx(a["loss/total"], rel=1e-4)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
