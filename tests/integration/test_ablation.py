"""The ablation benchmark: its rows are sound, it skips what is done, and its table holds what the runs found."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Synthesize

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablation", BENCHMARKS / "ablation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablation"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_row_is_a_recipe_and_changes_it(ablation: ModuleType) -> None:
    trees = [load_recipe("neuropbr:teacher_best", changes).tree for changes in ablation.ROWS.values()]
    assert all(trees[i] != trees[j] for i in range(len(trees)) for j in range(i))


def test_the_thirty_materials_are_split_by_a_fixed_list(tmp_path: Path) -> None:
    recipe = load_recipe(BENCHMARKS / "thirty_materials.yaml", [f"data.synthesize.materials={tmp_path}"])
    assert len(recipe.data.val_materials) == 8
    assert recipe.data.synthesize is not None
    assert recipe.data.synthesize.samples == 3 * (30 + recipe.data.synthesize.procedural)


def test_rows_run_once_and_fill_the_table(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    synthesize(Synthesize("neuropbr:examples/materials", samples=8, size=32), tmp_path / "data")
    small = ["data.synthesize=null", "data.image_size=32", "data.output_size=32", "data.crop_size=16", "data.pack=off"]
    settings = [part for change in small for part in ("--set", change)]
    asked = ["--rows", "the recipe,skips by mean", "--steps", "4", "--output", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--data", str(tmp_path / "data"), *asked, *settings])
    ablation.main()
    first = capsys.readouterr().out
    table = first[first.index("| |") :]
    assert re.findall(r"^\| (the recipe|skips by mean) \| [+-]\d", table, re.MULTILINE) == [
        "the recipe",
        "skips by mean",
    ]
    monkeypatch.setattr(ablation, "train_row", None)  # a row that ran again would raise
    ablation.main()
    assert capsys.readouterr().out == table
