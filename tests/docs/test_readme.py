"""The README's commands and snippets are run, on the quickstart shrunk to seconds."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line[2:].split("  ")[0].strip() for line in README.splitlines() if line.startswith("$ neuropbr")]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RECIPE = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)

SMALL = """
extends: {shipped}
data:
  synthesize: {{samples: 8, size: 32}}
  image_size: 32
  output_size: 32
  crop_size: 16
  repeats: 1
training: {{epochs: 1, batch_size: 2, device: cpu, log_images_every_n_epochs: 1}}
"""


def call(cwd: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr  # a run reports on standard error


def neuropbr(cwd: Path, *arguments: str) -> str:
    return call(cwd, sys.executable, "-c", "from neuropbr_core.cli import main; main()", *arguments)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the quickstart, made small, has run."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "recipes").mkdir()
    for path in (ROOT / "recipes").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        (folder / "recipes" / path.name).write_text(
            SMALL.format(shipped=path) if path.stem == "quickstart" else text, encoding="utf-8"
        )
    (folder / "examples").symlink_to(ROOT / "examples")
    neuropbr(folder, "run", "recipes/quickstart.yaml")
    # A command of the README packages what an earlier one predicted; tests may run in any order.
    neuropbr(folder, "infer", "examples/captures/bricks", "--output", "maps")
    return folder


def test_make_quickstart_is_the_run_that_the_readme_speaks_of() -> None:
    plan = call(ROOT, "make", "--dry-run", "quickstart")
    assert "neuropbr infer examples/captures/bricks" in plan
    assert "neuropbr run recipes/quickstart.yaml" in plan
    assert "venv" in plan


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, project: Path) -> None:
    assert neuropbr(project, *shlex.split(command)[1:])


def test_there_are_commands_and_snippets() -> None:
    assert len(COMMANDS) == 15
    assert len(SNIPPETS) == 2


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet(snippet: str, project: Path) -> None:
    call(project, sys.executable, "-c", snippet)


def test_recipe(project: Path) -> None:
    assert RECIPE is not None
    (project / "mine.yaml").write_text(RECIPE[1], encoding="utf-8")
    assert "ok" in neuropbr(project, "recipe", "check", "mine.yaml")


def test_the_run_folder_is_as_described(project: Path) -> None:
    run = project / "runs" / "quickstart"
    assert {path.name for path in run.iterdir()} - {"evaluations"} == {  # left by another command
        ".neuropbr-run",
        "recipe.yaml",
        "provenance.json",
        "metrics.jsonl",
        "images",
        "tensorboard",
        "checkpoints",
        "summary.json",
        "report.html",
        "exports",
    }
    assert {path.name for path in (run / "checkpoints" / "epoch_0001").iterdir()} == {
        "model.safetensors",
        "model.json",
        "training_state.pt",
        "manifest.json",
    }
