"""`docs/exporting.md` says what the program does: its commands and snippet run, its tables are those of the code."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import small_run
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.exporting import PASS_MARKS
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.registry import default_registry

PAGE = (Path(__file__).parents[2] / "docs" / "exporting.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quickstart, made small, has run."""
    folder = tmp_path_factory.mktemp("project")
    small_run.save_run(folder / "runs" / "quickstart", small_run.small_recipe())
    synthesize(Synthesize("neuropbr:examples/materials", samples=1, size=32), folder / "data" / "quickstart")
    return folder


def test_commands_and_snippet_run_one_after_the_other(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    lines = block("console").splitlines()
    assert len(lines) == 3
    for line in lines:
        program, *arguments = shlex.split(line.removeprefix("$ "))
        result = CliRunner().invoke(root, arguments, catch_exceptions=False)
        assert (program, result.exit_code) == ("neuropbr", 0), result.output
    subprocess.run([sys.executable, "-c", block("python")], check=True)


def test_the_recipe_loads(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: neuropbr:quickstart\n" + block("yaml"), encoding="utf-8")
    assert set(load_recipe(tmp_path / "mine.yaml").export) == {"torchscript", "onnx", "phone"}


def test_every_exporter_is_listed_with_its_suffix() -> None:
    registry = default_registry()
    listed = dict(re.findall(r"^\| `(\w+)` \| `(\.\w+)` \|", PAGE, re.MULTILINE))
    made = {
        entry.name: registry.create("exporter", entry.qualified, registry.options("exporter", entry.qualified)()).suffix
        for entry in registry.entries("exporter")
    }
    assert listed == made


def test_the_pass_marks_are_those_that_are_applied() -> None:
    listed = {name: float(mark) for name, mark in re.findall(r"^\| `(\w+)`.* \| (\d+) dB \|", PAGE, re.MULTILINE)}
    assert listed == {name: mark.psnr for name, mark in PASS_MARKS.items()}


def test_every_option_is_one_that_exists() -> None:
    shown = "".join(CliRunner().invoke(root, [name, "--help"]).output for name in ("export", "verify", "infer"))
    shown += "--kind --check"
    assert [option for option in re.findall(r"`(--[a-z-]+)", PAGE) if option not in shown] == []
