"""The batch script for SLURM: when a start is a new run, and when it continues one."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "examples/slurm/train.sbatch"


def words_of_the_run(tmp_path: Path) -> list[str]:
    """What the script would start on every machine."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, body in {"srun": f'echo "$@" > {tmp_path / "words"}', "scontrol": "echo node1"}.items():
        (commands / name).write_text(f"#!/bin/sh\n{body}\n")
        (commands / name).chmod(0o755)
    environment = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "RUNS_DIR": str(tmp_path / "runs"),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_NNODES": "1",
    }
    subprocess.run(["bash", str(SCRIPT), "recipe.yaml", "job"], env=environment, check=True)
    return (tmp_path / "words").read_text().split()


@pytest.mark.parametrize(
    ("files", "resumes"),
    [
        ((), False),
        # Preempted while captures were rendered: the folder holds the lock alone, and `--resume` would be refused.
        ((".lock",), False),
        ((".neuropbr-run",), False),
        ((".neuropbr-run", "recipe.yaml"), True),
    ],
)
def test_a_start_resumes_what_is_a_run(tmp_path: Path, files: tuple[str, ...], resumes: bool) -> None:
    for name in files:
        (tmp_path / "runs/job").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs/job" / name).touch()
    words = words_of_the_run(tmp_path)
    assert words[-1] == ("--resume" if resumes else str(tmp_path / "runs"))
