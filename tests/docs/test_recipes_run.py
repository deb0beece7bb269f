"""Every shipped recipe trains for two steps, with its networks and images made small and nothing else changed."""

import json
from pathlib import Path

import pytest

from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.runs.run import run
from neuropbr_core.shipped import recipe_names

SIZES = ["data.image_size=32", "data.output_size=32", "training.epochs=1", "training.batch_size=2"]
TEACHER = [
    "model.encoder.variant=resnet18",
    "model.fusion={dim: 32, heads: 2, depth: 1}",
    "model.decoder={channels: [16, 16, 16, 16], head_channels: 8}",
    "data.repeats=2",
]
GAN = ["losses.gan.layers=2", "losses.gan.width=8", "losses.gan.start_epoch=0"]
QUICK = ["data.synthesize=null", "data.crop_size=32", "data.repeats=1"]


def taught(*teacher: str) -> str:
    """The setting that makes a student's teacher small."""
    return f"teacher.overrides={json.dumps([*SIZES, *teacher])}"


STUDENT = [
    "model.encoder.variant=small",
    "data.render_curriculum=0",
    "data.repeats=2",
    taught(*TEACHER, *GAN),
]
"""The captures are clean; a student's other renders are dirty."""

SMALL = {
    "fast_iteration": [*TEACHER, *GAN],
    "flash_live": [
        "data.synthesize=null",
        "data.crop_size=16",
        'data.oversample={"*": 1}',
        "data.source.procedural=1",
        "data.source.texture_size=64",
        "data.source.visits=4",
        "data.source.light.drawn_environments=1",
    ],
    "high_quality": [*TEACHER, *GAN],
    "lightweight": TEACHER,
    "normal_focused": [*TEACHER, *GAN],
    "quick_test": [*TEACHER, *GAN],
    "quickstart": QUICK,
    "quickstart_student": [*QUICK, taught(*QUICK)],
    "student_convattn_1024": [*STUDENT, "model.fusion.channels=16"],
    "student_mobilenetv3_2048": [*STUDENT, "model.fusion={dim: 32, heads: 2}"],
    "student_mobilenetv3_512": [*STUDENT, "model.fusion={dim: 32, heads: 2}", "data.output_size=64"],
    "teacher_best": ["data.synthesize=null", "data.crop_size=16", 'data.oversample={"*": 1}'],
    "teacher_default": [*TEACHER, *GAN],
}


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
