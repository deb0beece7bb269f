"""`docs/students.md` shows what the program prints."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from neuropbr_core.cli.recipe import recipe
from neuropbr_core.shipped import recipe_names

PAGE = Path(__file__).parents[2] / "docs" / "students.md"
BLOCK = re.compile(r"<!-- command -->\n```console\n\$ neuropbr recipe (?P<words>.*)\n(?P<output>(?:.*\n)*?)```\n")


def expand(text: str) -> str:
    """Put each command's output behind it."""

    def block(match: re.Match[str]) -> str:
        output = CliRunner().invoke(recipe, shlex.split(match["words"]), catch_exceptions=False).output
        return f"<!-- command -->\n```console\n$ neuropbr recipe {match['words']}\n{output}```\n"

    return BLOCK.sub(block, text)


def test_the_costs_are_those_of_the_command() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert BLOCK.search(text) is not None
    assert text == expand(text), f"{PAGE}: run `python tests/docs/test_docs_students.py`"


def test_every_student_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in recipe_names() if name.startswith("student_") and f"| `{name}` |" not in text] == []


if __name__ == "__main__":
    PAGE.write_text(expand(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
