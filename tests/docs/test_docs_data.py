"""`docs/data.md` says what the program does: its commands run, its recipe loads, its codes are those of the checks."""

import ast
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.data.checking import check as checking
from neuropbr_core.data.checking import examine as examination
from neuropbr_core.data.layout import scan as layout
from neuropbr_core.materials import lint
from neuropbr_core.recipe import load_recipe
from neuropbr_core.shipped import resolve

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
CODE = re.compile(r"[a-z]+(-[a-z]+)+")
PLAIN = {"metadata", "cameras", "undecodable", "truncated", "grey", "alpha"}


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def block(page: str, marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_commands_run_one_after_the_other(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for material in ("acg_Bricks102", "acg_Rock053"):
        shutil.copytree(resolve(f"neuropbr:examples/materials/{material}"), tmp_path / "downloads" / material)
    lines = block(page, "run").splitlines()
    assert len(lines) == 3
    for line in lines:
        program, *arguments = shlex.split(line)
        result = CliRunner().invoke(root, arguments, catch_exceptions=False)
        assert (program, result.exit_code) == ("neuropbr", 0), result.output


def test_the_recipe_loads(page: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: neuropbr:teacher_default\n" + block(page, "recipe"))
    groups = load_recipe(tmp_path / "mine.yaml").data.groups
    assert groups["wood_floor"] == ("WoodFloor039", "WoodFloor040")


def test_every_code_is_explained_and_no_other(page: str) -> None:
    table = re.findall(r"^\| (?:error|warning|info) \| (.*?) \|", page, re.MULTILINE)
    explained = {code for cell in table for code in re.findall(r"`([\w-]+)`", cell)}
    used = set()
    for module in (checking, examination, layout, lint):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        texts = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        used |= {text for text in texts if CODE.fullmatch(text) or text in PLAIN}
    assert explained == used


def test_every_option_is_one_that_exists(page: str) -> None:
    for name in re.findall(r"`neuropbr data (\w+)", page):
        assert CliRunner().invoke(root, ["data", name, "--help"]).exit_code == 0
    shown = "".join(
        CliRunner().invoke(root, ["data", name, "--help"]).output for name in ("check", "import", "synthesize")
    )
    assert [option for option in re.findall(r"`(--[a-z-]+)", page) if option not in shown] == []
