"""`docs/distillation.md`: its recipe is sound, its commands exist, and its numbers follow from the code."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe import load_recipe

PAGE = Path(__file__).parents[2] / "docs" / "distillation.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_recipe_is_sound(page: str, tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "student.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "student.yaml")
    assert recipe.teacher is not None
    assert recipe.teacher.recipe == "neuropbr:teacher_default"
    assert recipe.losses["distillation"].options.alpha == 0.5


def test_options_of_shards_are_those_of_the_command(page: str) -> None:
    help_text = CliRunner().invoke(root, ["distill", "shards", "--help"]).output
    section = page.partition("## Shards")[2].partition("\n## ")[0]
    for option in re.findall(r"--[a-z-]+", section):
        assert option in help_text


def test_a_sample_takes_as_much_disk_as_it_says(page: str) -> None:
    assert f"{2 * sum(spec.logit_channels for spec in MAPS.values())} bytes a pixel" in page


def test_options_of_the_loss_are_its_own(page: str) -> None:
    options = load_recipe("neuropbr:quickstart_student").losses["distillation"].options
    section = page.partition("## The loss")[2]
    for name in ("alpha", "temperature", "normal_form", "feature_weight", "features"):
        assert f"`{name}" in section
        assert hasattr(options, name)
