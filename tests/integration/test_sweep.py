"""Sweeps over two seeds, for real: interrupted, killed, continued, beside each other, and in one table."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.recipe import Recipe, dump_recipe

MakeRecipe = Callable[..., Recipe]

pytestmark = pytest.mark.slow


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, here and in processes that are started."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(*words: str) -> "subprocess.Popen[str]":
    """Start a sweep as a shell would, in a process group of its own."""
    program = "from neuropbr_core.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.usefixtures("one_thread")
def test_a_sweep_continues_and_ends_in_one_table(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(dump_recipe(make_recipe("training.epochs=1")))
    words = ["sweep", str(recipe), "--seeds", "1,2", "--json"]
    result = CliRunner().invoke(root, words)
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    (row,) = table["rows"]
    assert row["seeds"] == [1, 2]
    assert row["spreads"]["roughness/mae"] > 0

    first, second = (tmp_path / "runs" / f"quickstart-training.seed={seed}" for seed in (1, 2))
    before = (first / "summary.json").stat().st_mtime_ns
    # As if the process had been killed between the training and the evaluation of the second run.
    (second / "summary.json").unlink()
    again = CliRunner().invoke(root, words)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == table
    assert f"Nothing is left to do: {first}" in again.stderr
    assert (first / "summary.json").stat().st_mtime_ns == before
    # The same runs beside each other, in other folders, with the same numbers.
    beside = CliRunner().invoke(root, [*words, "--jobs", "2", "--runs-dir", str(tmp_path / "beside")])
    assert beside.exit_code == 0, beside.output
    assert json.loads(beside.stdout) == table
    log = tmp_path / "beside/sweep-logs/quickstart-training.seed=1.log"
    assert "Run finished" in log.read_text()
    assert "Run finished" not in beside.stderr


def test_runs_beside_each_other_stop_and_go_on(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tmp_path / "long.yaml"
    recipe.write_text(dump_recipe(make_recipe("training.epochs=3000", "export.torchscript=null")))
    words = ["sweep", str(recipe), "--seeds", "1,2", "--jobs", "2"]
    runs = [tmp_path / "runs" / f"quickstart-training.seed={seed}" for seed in (1, 2)]
    logs = [tmp_path / "runs/sweep-logs" / f"{run.name}.log" for run in runs]
    sweep = start(*words)
    wait_for(lambda: all(log.exists() and "Epoch 1 Summary" in log.read_text() for log in logs))
    # A second sweep of the same runs finds them taken, and leaves them alone.
    second = start(*words)
    _, errors = second.communicate()
    assert second.returncode == 1
    assert errors.count("writes this run") >= 2
    assert sweep.poll() is None
    os.kill(sweep.pid, signal.SIGINT)
    _, errors = sweep.communicate()
    assert sweep.returncode == 130, errors
    assert "Stopped by Ctrl-C" in errors
    assert "Traceback" not in errors
    for run, log in zip(runs, logs, strict=True):
        assert not (run / ".lock").exists()
        assert (run / "checkpoints/latest").exists()
        # Each was told once, and saved.
        assert log.read_text().count("Stopping after this step") == 1
    plan = CliRunner().invoke(root, [*words, "--dry-run"])
    assert [line.split()[0] for line in plan.stdout.splitlines()] == ["continue", "continue"]


def test_a_run_whose_process_is_killed_is_named_and_the_other_finishes(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(dump_recipe(make_recipe("training.epochs=1", "export.torchscript=null")))
    words = ["sweep", str(recipe), "--seeds", "1,2", "--jobs", "2", "--json"]
    lock = tmp_path / "runs/quickstart-training.seed=1/.lock"
    sweep = start(*words)
    wait_for(lambda: lock.exists() and lock.read_text() != "")
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
    output, errors = sweep.communicate()
    assert sweep.returncode == 1
    assert "1 of 2 runs failed; the same command continues them" in errors
    table = json.loads(output)
    assert [row["seeds"] for row in table["rows"]] == [[2]]
    (note,) = table["notes"]
    assert note.startswith("failed: quickstart-training.seed=1: its process was killed by SIGKILL")
    again = start(*words)
    output, errors = again.communicate()
    assert again.returncode == 0, errors
    assert json.loads(output)["rows"][0]["seeds"] == [1, 2]
