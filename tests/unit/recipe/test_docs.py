"""`docs/recipes.md` says what the program does."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from neuropbr_core.cli.overrides import FLAGS
from neuropbr_core.cli.recipe import recipe
from neuropbr_core.recipe.reference import section_tables
from neuropbr_core.recipe.yaml_tree import parse
from neuropbr_core.shipped import recipe_names, resolve

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


@pytest.fixture
def schema_file(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The schema for editors, as the command of the page writes it."""
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"```console\n\$ neuropbr (recipe schema .*)\n", page)
    result = CliRunner().invoke(recipe, shlex.split(command)[1:])
    assert result.output == "wrote recipe.schema.json\n"
    return tmp_path / "recipe.schema.json"


def test_the_schema_for_editors_takes_shipped_recipes(schema_file: Path) -> None:
    schema = json.loads(schema_file.read_text(encoding="utf-8"))
    validator = Draft202012Validator(schema)
    for name in recipe_names():
        root, _ = parse(resolve(f"neuropbr:{name}").read_text(encoding="utf-8"), name)
        assert [error.message for error in validator.iter_errors(root.plain())] == [], name
    misspelt = {"extends": "neuropbr:quickstart", "losses": {"ssim": {"weigth": 0.5}}}
    assert [error.validator for error in validator.iter_errors(misspelt)] == ["additionalProperties"]


def test_editors_find_the_schema_by_the_lines_of_the_page(page: str, schema_file: Path) -> None:
    section = page.partition("## In an editor")[2].partition("\n## ")[0]
    # The form that yaml-language-server looks for among the comments at the top of a document.
    lines = re.findall(r"^# (?:yaml-language-server: \$schema=|\$schema: )(\S+)$", section, re.MULTILINE)
    assert lines == [schema_file.name] * 2
    (settings,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    assert json.loads(settings) == {"yaml.schemas": {schema_file.name: "recipes/*.yaml"}}
    # A recipe with such a line is the same recipe.
    text = f"# yaml-language-server: $schema={lines[0]}\nextends: neuropbr:quickstart\n"
    Path("mine.yaml").write_text(text, encoding="utf-8")
    assert CliRunner().invoke(recipe, ["check", "mine.yaml"]).output == "recipe ok: mine.yaml\n"
