"""`docs/training.md` knows the keys of the section, and says nothing of others."""

import re
from dataclasses import fields
from pathlib import Path

from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Data, Training

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
ELSEWHERE = {"epochs", "seed", "runs_dir", "log_images_every_n_epochs", "validate_every_n_epochs"}


def test_every_key_that_changes_how_a_run_trains_is_explained() -> None:
    assert [f.name for f in fields(Training) if f.name not in ELSEWHERE and f"{f.name}" not in PAGE] == []


def test_every_setting_that_it_shows_is_one() -> None:
    known = {f.name for section in (Training, Data) for f in fields(section)}
    shown = re.findall(r"`(?:training\.|data\.)?([a-z_]+): ([^`…]+)`", PAGE)
    assert {key for key, _ in shown} <= known
    settings = {
        f"{'training' if hasattr(Training, key) else 'data'}.{key}={value}" for key, value in shown if value != "N"
    }
    for setting in settings - {"training.precision=fp16", "training.precision=bf16"}:
        load_recipe("neuropbr:quickstart", [setting])
