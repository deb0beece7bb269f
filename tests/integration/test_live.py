"""Training on drawn visits: a run from beginning to end, and one that is killed."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.recipe import dump_recipe, load_recipe
from neuropbr_core.recipe.sections import Recipe, Synthesize
from neuropbr_core.runs.run import run
from neuropbr_core.runs.trained_on import trained_on
from neuropbr_core.testing.dataset import DatasetSuite

MATERIALS = "neuropbr:examples/materials"


class TestLive(DatasetSuite):
    """The samples of the source are those of the layout, for validation."""

    use = "live"

    def write_dataset(self, folder: Path) -> Mapping[str, Any]:
        synthesize(Synthesize(MATERIALS, samples=3, size=32, seed=1), folder)
        return {"root": str(folder), "views": 3, "alignment": "recorded"}


def live_recipe(pool: Path, runs: Path, *overrides: str) -> Recipe:
    tiny = (
        f"data.root={pool}",
        "data.synthesize=null",
        "data.val_materials=[acg_Bricks102, t3_Sci-Fi_Wall_014]",
        "data.image_size=32",
        "data.view_size=32",
        "data.output_size=32",
        "data.crop_size=16",
        "data.source.procedural=2",
        "data.source.texture_size=64",
        "data.source.visits=12",
        "data.source.share=0.7",
        "data.source.light.drawn_environments=2",
        "model.encoder.channels=[8, 8]",
        "model.decoder.channels=[8]",
        "model.decoder.head_channels=8",
        "training.epochs=2",
        "training.batch_size=2",
        "training.log_every_n_steps=2",
        "training.validate_every_n_epochs=1",
        "training.log_images_every_n_epochs=99",
        "training.save_every_n_epochs=1",
        "training.save_every_n_steps=2",
        "training.device=cpu",
        f"training.runs_dir={runs}",
        "export.torchscript=null",
    )
    return load_recipe("neuropbr:flash_live", [*tiny, *overrides])


def rows(folder: Path) -> list[dict[str, Any]]:
    """What a run's journal says about losses and validation, without what a clock decides."""
    kept = []
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["event"] in ("train", "epoch", "validation"):
            kept.append({key: value for key, value in row.items() if key not in ("time", "seconds")})
    return kept


def same(one: Path, other: Path) -> None:
    assert sorted(map(str, rows(one))) == sorted(map(str, rows(other)))
    weights = [load_file(folder / "checkpoints" / "epoch_0002" / "model.safetensors") for folder in (one, other)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_run_trains_and_its_threads_change_nothing(pool: Path, tmp_path: Path) -> None:
    alone = run(live_recipe(pool, tmp_path, "data.num_workers=0"), run_name="alone")
    losses = [row["loss/total"] for row in rows(alone) if row["event"] == "train"]
    assert len(losses) == 6
    assert all(map(math.isfinite, losses))
    ahead = run(live_recipe(pool, tmp_path, "data.num_workers=3"), run_name="ahead")
    same(alone, ahead)
    learnt = trained_on(alone)
    assert learnt.is_complete
    # Not every material of the visits is among the captures.
    assert {"acg_Tiles032", "t3_Wood_027", "acg_Metal053C"} <= set(learnt.materials)
    assert {"acg_Bricks102", "t3_Sci-Fi_Wall_014"}.isdisjoint(learnt.materials)


KILLED = """
import os, signal, sys
from neuropbr_core.recipe import load_recipe
from neuropbr_core.runs.run import run
from neuropbr_core.training.loop.step import Stepper

step, done = Stepper.step, 0

def deadly(self, *details, **options):
    global done
    result = step(self, *details, **options)
    done += 1
    if done == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

Stepper.step = deadly
run(load_recipe(sys.argv[1]), run_name="killed")
"""


def test_a_killed_run_continues_with_the_visits_of_one_that_was_not(pool: Path, tmp_path: Path) -> None:
    recipe = live_recipe(pool, tmp_path)
    whole = run(recipe, run_name="whole")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "recipe.yaml")], check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = run(recipe, run_name="killed", resume=True)
    same(whole, resumed)
