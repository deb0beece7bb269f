"""A sweep over two seeds, for real: interrupted, continued, and in one table."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.recipe import Recipe, dump_recipe

MakeRecipe = Callable[..., Recipe]

pytestmark = pytest.mark.slow


def test_a_sweep_continues_and_ends_in_one_table(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(dump_recipe(make_recipe("training.epochs=1")))
    words = ["sweep", str(recipe), "--seeds", "1,2", "--json"]
    result = CliRunner().invoke(root, words)
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    (row,) = table["rows"]
    assert row["seeds"] == [1, 2]
    assert row["spreads"]["roughness/mae"] > 0

    first, second = (tmp_path / "runs" / f"quickstart-training.seed={seed}" for seed in (1, 2))
    before = (first / "summary.json").stat().st_mtime_ns
    # As if the process had been killed between the training and the evaluation of the second run.
    (second / "summary.json").unlink()
    again = CliRunner().invoke(root, words)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == table
    assert f"Nothing is left to do: {first}" in again.stderr
    assert (first / "summary.json").stat().st_mtime_ns == before
