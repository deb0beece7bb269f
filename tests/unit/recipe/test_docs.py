"""`docs/recipes.md` says what the program does."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from neuropbr_core.cli.overrides import FLAGS
from neuropbr_core.cli.recipe import recipe
from neuropbr_core.recipe.reference import section_tables

PAGE = Path(__file__).parents[3] / "docs" / "recipes.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_error_example_is_what_a_check_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(
        r"<!-- example: (\S+) -->\n```yaml\n(.*?)```.*?`neuropbr (recipe .*?)` says\n\n"
        r"<!-- output -->\n```text\n(.*?)```",
        page,
        re.DOTALL,
    )
    assert found is not None
    name, text, command, output = found.groups()
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    result = CliRunner().invoke(recipe, command.split()[1:])
    assert result.exit_code == 1
    assert result.stderr == output


def test_the_first_example_is_a_sound_recipe(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("first.yaml").write_text(page.split("```yaml\n", 2)[1].split("```", 1)[0])
    result = CliRunner().invoke(recipe, ["check", "first.yaml"])
    assert result.output == "recipe ok: first.yaml\n"


def test_the_tables_are_those_of_the_sections(page: str) -> None:
    found = re.search(r"<!-- sections: [^>]*-->\n(.*?)\n<!-- end of sections -->", page, re.DOTALL)
    assert found is not None
    tables = found[1]
    assert tables == section_tables(), "paste the output of neuropbr_core.recipe.reference.section_tables()"


def test_every_flag_and_command_is_mentioned(page: str) -> None:
    assert [flag.flag for flag in FLAGS if f"`{flag.flag}`" not in page] == []
    assert [name for name in recipe.commands if f"`neuropbr recipe {name} " not in page and name != "list"] == []
