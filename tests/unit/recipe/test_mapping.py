"""Recipes that are dictionaries."""

from pathlib import Path

import numpy as np
import pytest

from neuropbr_core.errors import RecipeError
from neuropbr_core.recipe import dump_recipe, load_recipe


def test_a_dictionary_is_as_good_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: neuropbr:quickstart\ntraining: {epochs: 3, seed: 7}\nlosses: {ssim: null}\noptimizer: {lr: 2.0e-4}\n"
    )
    mapping = {
        "extends": "neuropbr:quickstart",
        "name": "mine",
        "training": {"epochs": 3, "seed": np.int64(7)},
        "losses": {"ssim": None},
        "optimizer": {"lr": np.float64(2e-4)},
    }
    assert dump_recipe(load_recipe(mapping)) == dump_recipe(load_recipe(tmp_path / "mine.yaml"))
    assert load_recipe(mapping, ["training.epochs=5"]).training.epochs == 5


def test_its_name_is_recipe_where_it_has_none() -> None:
    assert load_recipe({"extends": "neuropbr:quickstart"}).name == "recipe"


def test_its_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text("extends: neuropbr:quickstart\ntraining: {epochs: 9}\n")
    assert load_recipe({"extends": Path("base.yaml")}).training.epochs == 9
    with pytest.raises(RecipeError, match=r"nothing\.yaml"):
        load_recipe({"extends": "nothing.yaml"})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"extends": "neuropbr:quickstart", "training": {"epoch": 3}}, r"training\.epoch.*epochs"),
        (
            {"extends": "neuropbr:quickstart", "training": {"epochs": object()}},
            r"training\.epochs: found object; a recipe",
        ),
        (
            {"extends": "neuropbr:quickstart", "training": {3: 4}},
            r"training: found the key 3; keys of a recipe are texts",
        ),
        ({}, "the recipe is"),
    ],
)
def test_mistakes_are_named_by_their_keys(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(mapping)
