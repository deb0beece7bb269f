"""`docs/evaluation.md` names every metric and baseline that there is, and its commands have the options it shows."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.evaluation import baselines
from neuropbr_core.evaluation.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def rows(page: str, heading: str) -> set[str]:
    """The names in the first column of the table under a heading."""
    table = page.partition(f"## {heading}")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_metric_is_explained_and_no_other(page: str) -> None:
    assert rows(page, "Metrics") == set(METRICS)


def test_every_baseline_is_explained_and_no_other(page: str) -> None:
    names = {value for name, value in vars(baselines).items() if name.isupper() and isinstance(value, str)}
    assert rows(page, "Baselines") == names - {baselines.MEDIAN_UNALIGNED}


def test_the_options_are_those_of_the_command(page: str) -> None:
    help_text = CliRunner().invoke(root, ["evaluate", "--help"]).output
    commands = re.findall(r"^\$ (neuropbr evaluate .*)$", page.replace("\\\n", ""), re.MULTILINE)
    assert len(commands) == 9
    for option in [word for command in commands for word in shlex.split(command) if word.startswith("--")]:
        assert option.partition("=")[0] in help_text
