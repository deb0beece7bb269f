"""The commands of `docs/report.md` and `docs/batch.md` run, and their numbers are those of the code."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_run
from click.testing import CliRunner
from PIL import Image

from neuropbr_core.cli import root
from neuropbr_core.inference.batch import INTERVAL
from neuropbr_core.report import MAP_SIDE
from neuropbr_core.runs.report import SAMPLE_SIDE

ROOT = Path(__file__).parents[2]
REPORT = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
BATCH = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    lines = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            program, *arguments = shlex.split(line.removeprefix("$ "))
            assert program == "neuropbr"
            lines.append(arguments)
    return lines


def test_reports_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_run.save_run(tmp_path / "runs" / "quickstart", small_run.small_recipe())
    shutil.copytree(ROOT / "examples" / "materials" / "acg_Bricks102", tmp_path / "maps")
    monkeypatch.chdir(tmp_path)
    for arguments in commands(REPORT):
        done = CliRunner().invoke(root, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    assert written == {"maps/report.html", "runs/quickstart/report.html", "both.html"}


def test_batches_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples" / "captures", tmp_path / "examples" / "captures")
    monkeypatch.chdir(tmp_path)
    for arguments in commands(BATCH):
        done = CliRunner().invoke(root, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "many" / "metal_plates" / "preview.jpg").is_file()
    assert (tmp_path / "many" / "batch.html").is_file()
    assert (tmp_path / "for_blender" / "bricks" / "blender" / "manifest.json").is_file()


def test_the_picture_of_the_readme_is_made_by_the_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.findall(r"^\t\$\(BIN\)/neuropbr ((?:infer|report) .*)$", makefile, re.MULTILINE)
    assert len(recipe) == 2
    shutil.copytree(ROOT / "examples" / "captures" / "bricks", tmp_path / "examples" / "captures" / "bricks")
    monkeypatch.chdir(tmp_path)
    for line in recipe:
        done = CliRunner().invoke(root, [*shlex.split(line)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    images = []
    for path in (tmp_path / "maps" / "bricks" / "picture.jpg", ROOT / "docs" / "images" / "bricks.jpg"):
        with Image.open(path) as image:
            images.append(np.asarray(image, dtype=float))
    assert images[0].shape == images[1].shape
    # Networks differ in their last digits between machines, and JPEG amplifies that.
    assert np.abs(images[0] - images[1]).mean() < 1
    assert "docs/images/bricks.jpg" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_numbers_are_those_of_the_code() -> None:
    assert f"shrunk to {MAP_SIDE:,} pixels a side, or to {SAMPLE_SIDE} where" in REPORT
    assert INTERVAL == 2
    assert "looks every two seconds" in BATCH
