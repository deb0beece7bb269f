"""`neuropbr distill shards`: resumable, refusing what does not fit, and shared by several processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

from neuropbr_core.cli import root
from neuropbr_core.cli.run import run as run_command
from neuropbr_core.data.batches.teacher_logits import read_logits
from neuropbr_core.recipe import dump_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.run import run

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def teacher(module_recipe: MakeRecipe) -> Path:
    """A small teacher's run."""
    quiet = ("observers={progress: null, grid: null, tensorboard: null}", "export.torchscript=null")
    return run(module_recipe(*quiet, "training.epochs=1"), run_name="teacher")


def shards(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["distill", "shards", *map(str, arguments)])


def ids(folder: Path) -> set[str]:
    return set(read_logits(folder).samples)


def test_it_predicts_what_is_missing_in_shards_of_the_size_asked_for(teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    result = shards("--teacher", teacher, "--output", out, "--shard-size", 4, "--size", 16)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Predicted 6 samples into {out}\n"
    files = sorted(out.iterdir())
    sizes = sorted(len(load_file(file)) // 4 for file in files)
    assert sizes == [2, 4]
    assert read_logits(out).size == 16
    files[0].unlink()
    kept = len(ids(out))
    resumed = shards("--teacher", teacher, "--output", out, "--size", 16, "--resume")
    assert resumed.stdout == f"Predicted {6 - kept} samples into {out}; kept {kept}\n"
    assert len(ids(out)) == 6
    again = shards("--teacher", teacher, "--output", out, "--size", 16, "--resume")
    assert again.stdout == f"Predicted 0 samples into {out}; kept 6\n"


def test_what_does_not_fit_is_refused(teacher: Path, tmp_path: Path, pool: Path) -> None:
    out = tmp_path / "shards"
    assert shards("--teacher", teacher, "--output", out).exit_code == 0
    for arguments, message in (
        ((), "holds shards already; add what they lack with --resume, or remove the folder"),
        (("--resume", "--size", 64), "maps of 32 px there, 64 px wanted"),
        (("--checkpoint", "epoch_0009", "--resume"), "there is no checkpoint 'epoch_0009'"),
        (("--data", tmp_path / "gone", "--resume"), "no samples found"),
        (("--device", "toaster", "--resume"), "device: found 'toaster'"),
        (("--set", "data.root=1", "--set", "data.viws=2", "--resume"), "data.viws: unknown key"),
    ):
        result = shards("--teacher", teacher, "--output", out, *arguments)
        assert result.exit_code == 1
        assert message in str(result.exception), arguments
    nobody = shards("--teacher", tmp_path / "nobody", "--output", tmp_path / "x")
    assert "is no run" in str(nobody.exception)


def test_a_dry_run_prints_the_plan(module_recipe: MakeRecipe, teacher: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "student.yaml"
    changed = module_recipe("losses.distillation={}", f"teacher={{run: {teacher}}}", "export.torchscript=null")
    recipe.write_text(dump_recipe(changed))
    result = CliRunner().invoke(run_command, [str(recipe), "--dry-run", "--run-name", "s"])
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "data",
        "data",
        "teacher",
        "logits",
        "train",
        "evaluate",
        "report",
    ]
    assert f"{teacher / 'shards-32'}: the training samples are predicted" in result.stdout
    assert not (teacher / "shards-32").exists()
    assert not (teacher.parent / "s").exists()


def test_two_processes_share_the_work(teacher: Path, tmp_path: Path) -> None:
    """As started by torchrun: each process predicts every second sample."""
    out = tmp_path / "shards"
    script = tmp_path / "distill.py"
    script.write_text("from neuropbr_core.cli import main\n\nmain()\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    command += ["distill", "shards", "--teacher", str(teacher), "--output", str(out), "--shard-size", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    line = f"Predicted 3 samples into {out}; 3 are left to other processes"
    assert done.stdout.splitlines().count(line) == 2
    assert len(ids(out)) == 6
    alone = tmp_path / "alone"
    assert shards("--teacher", teacher, "--output", alone).exit_code == 0
    one, other = (
        {name: values for file in folder.iterdir() for name, values in load_file(file).items()}
        for folder in (out, alone)
    )
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
