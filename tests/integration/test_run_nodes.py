"""Runs over two machines, each played by a torchrun of its own on this one, and by SLURM's commands."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuropbr_core.recipe import dump_recipe
from tests.integration.test_run_processes import BIN, PLAIN, MakeRecipe, assert_equal_runs, finish, launch, rows

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "examples/slurm/train.sbatch"
STUBS = {
    # The real one runs its command on every machine.
    "srun": 'exec "$@"',
    "scontrol": 'if [ "$1" = show ]; then echo 127.0.0.1; else echo "$*" >> "$SCONTROL_LOG"; fi',
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def torchrun(node: int, port: int) -> tuple[str, ...]:
    """How machine `node` of two starts its one process."""
    return (
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", f"--node-rank={node}"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=two"),
    )


def test_two_machines_train_like_one(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    one = make_recipe(*PLAIN, "training.batch_size=4")
    two = make_recipe(*PLAIN, "training.batch_size=2")
    port = free_port()
    machines = [launch(two, tmp_path / "two.yaml", "two", by=torchrun(node, port)) for node in range(2)]
    finish(launch(one, tmp_path / "one.yaml", "one"))
    errors = [finish(machine)[1] for machine in machines]
    runs = Path(one.training.runs_dir)
    assert_equal_runs(runs / "one", runs / "two")
    # The first process of all writes and speaks for everybody.
    assert sum(error.count("Run finished") for error in errors) == 1
    assert rows(runs / "two", "run_started")[0]["facts"]["processes"] == "2"


def test_a_machine_that_is_lost_ends_the_run_everywhere(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(*PLAIN, "training.batch_size=2", "training.epochs=500")
    port = free_port()
    machines = [launch(recipe, tmp_path / "two.yaml", "two", by=torchrun(node, port)) for node in range(2)]
    folder = Path(recipe.training.runs_dir) / "two"
    deadline = time.monotonic() + 300
    while not (folder / "metrics.jsonl").exists() or not rows(folder, "epoch"):
        assert time.monotonic() < deadline
        assert all(machine.poll() is None for machine in machines)
        time.sleep(0.2)
    (lost,) = subprocess.run(
        ["pgrep", "-P", str(machines[1].pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(lost), signal.SIGKILL)
    killed = time.monotonic()
    texts = [machine.communicate(timeout=120)[1] for machine in machines]
    assert time.monotonic() - killed < 30
    assert all(machine.returncode != 0 for machine in machines)
    errors = [line for text in texts for line in text.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: process 1 of 2 lost the connection to another one, which has ended")
    # torchrun prints a traceback of its own.
    assert "neuropbr_core/" not in texts[0]
    # What the lost machine had saved before is sound, and the run goes on from there with one process.
    finish(launch(recipe, tmp_path / "one.yaml", "two", "--resume", "--set", "training.epochs=1"))


def test_slurm_requeues_a_preempted_job_and_it_resumes(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, body in STUBS.items():
        (commands / name).write_text(f"#!/bin/sh\n{body}\n")
        (commands / name).chmod(0o755)
    recipe = make_recipe(*PLAIN, "training.epochs=500")
    runs = Path(recipe.training.runs_dir)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    requeued = tmp_path / "requeued"
    environment = {
        **os.environ,
        "PATH": f"{commands}:{BIN}:{os.environ['PATH']}",
        "SCONTROL_LOG": str(requeued),
        "RUNS_DIR": str(runs),
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "1",
    }
    command = ["bash", str(SCRIPT), str(tmp_path / "recipe.yaml"), "job"]

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    job = start()
    deadline = time.monotonic() + 300
    while not (runs / "job/metrics.jsonl").exists() or not rows(runs / "job", "epoch"):
        assert time.monotonic() < deadline
        assert job.poll() is None
        time.sleep(0.2)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=120)
    assert requeued.read_text() == f"requeue {environment['SLURM_JOB_ID']}\n"
    trained = len(rows(runs / "job", "epoch"))
    (tmp_path / "recipe.yaml").write_text(dump_recipe(make_recipe(*PLAIN, f"training.epochs={trained + 2}")))
    job = start()
    _, error = job.communicate(timeout=300)
    assert job.returncode == 0, error
    assert "resum" in error.lower()
    assert len(rows(runs / "job", "epoch")) == trained + 2
    assert requeued.read_text().count("requeue") == 1
