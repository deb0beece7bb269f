"""Every shipped recipe trains for two steps, with its networks and images made small and nothing else changed."""

import json
from pathlib import Path

import pytest
from small_recipes import SIZES, SMALL

from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.runs.run import run
from neuropbr_core.shipped import recipe_names


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("captures")
    synthesize(Synthesize("neuropbr:examples/materials", samples=8, size=32), root)
    return root


def test_every_recipe_has_a_small_form() -> None:
    assert set(SMALL) == set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_trains(name: str, captures: Path, tmp_path: Path) -> None:
    places = [f"data.root={captures}", f"training.runs_dir={tmp_path}", "training.device=cpu"]
    folder = run(load_recipe(f"neuropbr:{name}", [*SIZES, *places, *SMALL[name]]))
    rows = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    (epoch,) = (row for row in rows if row["event"] == "epoch")
    assert epoch["step"] >= 2
    assert all(value is not None for value in epoch.values())
