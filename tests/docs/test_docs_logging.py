"""`docs/logging.md` says what observers do: its recipe loads, its observers and options are real."""

import re
from pathlib import Path

import pytest

from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.merge import SECTION_DEFAULTS
from neuropbr_core.registry import default_registry

PAGE = Path(__file__).parents[2] / "docs" / "logging.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_first_table_lists_the_observers_that_are_on(page: str) -> None:
    table = page.split("| observer |", 1)[1].split("\n\n", 1)[0]
    assert tuple(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == SECTION_DEFAULTS["observers"]


def test_every_observer_is_described(page: str) -> None:
    names = {entry.name for entry in default_registry().entries("observer") if entry.distribution == "neuropbr"}
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_recipes_load(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"<!-- recipe -->\n```yaml\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "mine.yaml").write_text("extends: neuropbr:quickstart\n" + block)
        observers = load_recipe(tmp_path / "mine.yaml").observers
        written = {name for name, options in re.findall(r"^  (\w+): (.*)$", block, re.MULTILINE) if options != "null"}
        assert written <= set(observers)


def test_every_key_that_the_signals_name_is_real(page: str) -> None:
    training = load_recipe("neuropbr:quickstart").training
    named = re.findall(r"`training\.(\w+)`", page)
    assert named
    assert [key for key in named if not hasattr(training, key)] == []
