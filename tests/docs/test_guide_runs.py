"""A command for each row of `docs/guide.md` that runs on a CPU, on small networks and images.

`test_recipes_run.py` runs the presets, and `test_example_plugin.py` a loss of one's own; `test_docs_guide.py` compares
outputs, signals and common issues with a run.
"""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from guide_rows import FLAGS, GUIDE, PRESETS, table
from small_recipes import GAN, SIZES, SMALL, TEACHER

from neuropbr_core.cli import root
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Synthesize

pytestmark = pytest.mark.slow

SMALLER = {
    "data.image_size": ["data.image_size=64", "data.output_size=64"],
    "data.output_size": ["data.image_size=32", "data.output_size=64", "model.decoder.super_resolution=2"],
    "model.encoder_type": ["model.encoder.use=resnet"],
    "model.encoder_backbone": ["model.encoder.variant=resnet34"],
    "model.encoder_channels": [
        "model.encoder={use: unet, channels: [4, 8, 16, 16, 16, 16]}",
        "model.decoder.channels=null",
    ],
    "model.transformer_dim": ["model.fusion.dim=64"],
    "model.transformer_num_heads": ["model.fusion.heads=4"],
    "model.transformer_depth": ["model.fusion.depth=2"],
    "model.discriminator_type": ["losses.gan.critic=configurable"],
    "model.discriminator_n_layers": ["losses.gan.layers=3"],
    "model.freeze_backbone": ["model.encoder.freeze=true"],
    "training.epochs": ["training.epochs=2"],
    "training.batch_size": ["training.batch_size=3"],
    "training.checkpoint_dir": [],
    "training.use_wandb": [],
    "Only CPU detected": [],
    "OOM": [
        *("training.batch_size=1", "training.accumulate=4", "model.encoder.variant=resnet18"),
        *("model.fusion.depth=2", "training.precision=bf16"),
    ],
}
"""Forms of rows that need smaller values here; an empty one is shown by a test of its own."""

ALONE = {"losses.gan.start_epoch", "training.precision"}
"""Settings without which a run shows more: a critic that starts late shows nothing of its own settings."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with captures, a small teacher's recipe, a student's, and the runs of both."""
    folder = tmp_path_factory.mktemp("guide")
    plan = Synthesize("neuropbr:examples/materials", samples=8, size=32, dirty_fraction=1.0)
    synthesize(plan, folder / "data")
    write_recipe(folder / "teacher.yaml", "neuropbr:teacher_default", folder, [*SIZES, *TEACHER, *GAN])
    write_recipe(
        folder / "student.yaml",
        "neuropbr:student_mobilenetv3_512",
        folder,
        [*SIZES, *SMALL["student_mobilenetv3_512"], "teacher.recipe=teacher.yaml", "teacher.overrides=[]"],
    )
    # The student's run trains its teacher first: one command makes both.
    neuropbr("run", folder / "student.yaml")
    return folder


def write_recipe(path: Path, extends: str, folder: Path, overrides: list[str]) -> None:
    """A recipe that extends another, with `--set` texts written as a file."""
    recipe = load_recipe(extends, [text for text in overrides if not text.startswith("teacher.")])
    tree = {**recipe.tree, "name": path.stem}
    tree["data"] = {**tree["data"], "root": str(folder / "data"), "num_workers": 0}
    tree["training"] = {**tree["training"], "runs_dir": str(folder / "runs"), "device": "cpu", "compile": False}
    if tree["teacher"] is not None:
        tree["teacher"] = {**tree["teacher"], "recipe": str(folder / "teacher.yaml"), "overrides": []}
    path.write_text(json.dumps(tree), encoding="utf-8")


def neuropbr(*words: object) -> str:
    """Run a command in this process; returns what it printed."""
    result = CliRunner().invoke(root, [str(word) for word in words])
    assert result.exit_code == 0, f"{words}\n{result.output}\n{result.exception}"
    return result.output


def train(base: Path, *words: object, name: str, recipe: str = "teacher.yaml") -> Path:
    neuropbr("run", base / recipe, "--run-name", name, "--overwrite", *words)
    return base / "runs" / name


def settings(guide: str, counterpart: str) -> list[str]:
    """The `--set` texts of a row, small."""
    return SMALLER.get(guide, re.findall(r"`([^`]+)`", counterpart))


def rows_by_run() -> dict[str, dict[str, list[str]]]:
    """The settings of each row, by the runs that show them.

    Rows that set plain values at different places share a run. One that chooses a component, takes something away,
    needs smaller values or would change what others do (`ALONE`) has a run of its own.
    """
    runs: dict[str, dict[str, list[str]]] = {}
    places: dict[str, set[str]] = {}
    for name in ("keys", "losses", "troubles"):
        for guide, counterpart in table(name).items():
            texts = settings(guide, counterpart)
            if guide == "Custom losses" or not texts:
                continue
            own = {text.split("=")[0] for text in texts}
            is_plain = guide not in SMALLER and own.isdisjoint(ALONE)
            is_plain = is_plain and not any(text.endswith(("null", "}")) for text in texts)
            shared = [run for run in runs if is_plain and run in places and places[run].isdisjoint(own)]
            if shared:
                runs[shared[0]][guide] = texts
                places[shared[0]] |= own
            else:
                runs[guide] = {guide: texts}
                if is_plain:
                    places[guide] = own
    return runs


RUNS = rows_by_run()


@pytest.mark.parametrize("rows", RUNS.values(), ids=RUNS)
def test_a_run_takes_the_settings_of_each_row(base: Path, rows: dict[str, list[str]]) -> None:
    words = []
    for texts in rows.values():
        for text in texts:
            words += ["--set", text]
    if "model.encoder.freeze=true" in words:
        # Random weights are not frozen: the run starts from those of the teacher.
        words += ["--init-from", base / "runs" / "teacher"]
    run = train(base, *words, name="row")
    assert (run / "summary.json").is_file()
    ran = load_recipe(run / "recipe.yaml")
    for guide, texts in rows.items():
        if texts == ["losses.gan=null"]:
            # What is gone cannot be taken away again.
            assert "gan" not in ran.losses
        else:
            # What ran is what the row says: the run's recipe, with these settings on top, is the same recipe.
            assert load_recipe(run / "recipe.yaml", texts).tree == ran.tree, guide


def test_the_simple_critic_runs(base: Path) -> None:
    """Its patches are larger than the images of the other tests."""
    sizes = ["--set", "data.image_size=32", "--set", "data.output_size=32"]
    train(base, *sizes, "--set", "losses.gan.critic=simple", name="simple")


def test_the_folder_of_checkpoints_is_chosen(base: Path, tmp_path: Path) -> None:
    neuropbr("run", base / "teacher.yaml", "--run-name", "mine", "--checkpoint-dir", tmp_path / "my_checkpoints")
    assert (tmp_path / "my_checkpoints/mine/checkpoints/best").is_file()


def test_a_missing_gpu_is_an_error_that_lists_devices(base: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = CliRunner().invoke(root, ["run", str(base / "teacher.yaml"), "--run-name", "gpu", "--device", "cuda"])
    assert result.exit_code != 0
    assert "available: cpu" in f"{result.output} {result.exception}"


def commands(base: Path, out: Path) -> dict[str, list[list[object]]]:
    """The commands of each row of the table of flags, on what `base` holds."""
    teacher, student = base / "runs" / "teacher", base / "runs" / "student"
    sample = base / "data/input/clean/sample_0000"
    run = ["run", base / "teacher.yaml", "--overwrite", "--run-name", "flag"]
    shards = ["distill", "shards", "--teacher", teacher]
    infer = ["infer", "--run", teacher, "--output", out]
    coreml = ["export", "--run", student, "--to", "coreml"]
    make = [*coreml, "--output", out / "made"]
    # Rows that read a package share the one of the first of them.
    package = base / "made" / "coreml.mlpackage"
    made: list[list[object]] = []
    if not package.exists():
        made.append([*coreml, "--output", package.parent])
    predict = ["infer", "--model", package, "--input", sample, "--output", out]
    folders = ["--input-dir", base / "data/input", "--output-dir", base / "data/output"]
    online = ["run", base / "student.yaml", "--overwrite", "--run-name", "flagged", "--set", f"teacher.run={teacher}"]
    student_run = [*online, "--set", "teacher.recipe=null"]
    return {
        "train.py": [run],
        "train.py --config NAME": [["run", "neuropbr:teacher_default", "--data", base / "data", "--dry-run",
            "--set", "training.memory_check=off", "--batch-size", 1, "--runs-dir", out]],
        "train.py --input-dir": [[*run, *folders]],
        "train.py --output-dir": [[*run, *folders]],
        "train.py --device": [[*run, "--device", "cpu"]],
        "train.py --render-curriculum": [[*run, "--render-curriculum", 1]],
        "train.py --use-dirty": [[*run, "--use-dirty"]],
        "train.py --batch-size": [[*run, "--batch-size", 2]],
        "train.py --checkpoint-dir": [["run", base / "teacher.yaml", "--checkpoint-dir", out / "runs"]],
        "train.py --resume": [
            run,
            ["run", base / "teacher.yaml", "--run-name", "flag", "--resume", "--epochs", 2],
            ["run", base / "teacher.yaml", "--run-name", "flag", "--resume", "epoch_0002", "--epochs", 2],
        ],
        "PBRDataset(…)": [["data", "check", base / "data"]],
        "run_inference.py --checkpoint": [[*infer, "--checkpoint", "best"]],
        "run_inference.py --input-dir": [[*infer, "--input", sample]],
        "run_inference.py --sample-idx": [[*infer, "--sample-idx", 3]],
        "run_inference.py --out-dir": [[*infer, "--input", sample]],
        "teacher_infer.py --checkpoint": [[*shards, "--output", out / "a", "--checkpoint", "best"]],
        "teacher_infer.py --data-root": [[*shards, "--output", out / "b", "--data", base / "data"]],
        "teacher_infer.py --shards-dir": [[*shards, "--output", out / "c"]],
        "teacher_infer.py --shard-output-size": [[*shards, "--output", out / "d", "--size", 16]],
        "teacher_infer.py --shard-size": [[*shards, "--output", out / "e", "--shard-size", 2]],
        "student/train.py --config": [student_run],
        "student/train.py --shards-dir": [[*student_run, "--set", f"teacher.shards={out / 'f'}"]],
        "student/train.py --input-dir": [[*student_run, *folders]],
        "student/train.py --output-dir": [[*student_run, *folders]],
        "student/train.py --checkpoint-dir": [[*student_run[:2], *student_run[5:], "--checkpoint-dir", out / "runs"]],
        "coreml/converter.py CHECKPOINT": [coreml],
        "coreml/converter.py --output": [make],
        "coreml/converter.py --no-fp16": [[*make, "--option", "precision=fp32"]],
        "coreml/converter.py --palettization": [[*make, "--option", "palettize=true"]],
        "coreml/converter.py --test-resolution": [
            [*make, "--resolution", 64, "--option", "super_resolution=bypass"],
        ],
        "coreml/converter.py --use-sr": [[*make, "--resolution", 64]],
        "coreml/run_inference.py PACKAGE": [*made, predict],
        "coreml/run_inference.py --input": [*made, predict],
        "coreml/run_inference.py --output": [*made, [*predict, "--size", 128]],
    }  # fmt: skip


@pytest.mark.parametrize("row", [row for row in FLAGS if not row.startswith("tensorboard")])
def test_the_command_of_each_row_runs(base: Path, tmp_path: Path, row: str) -> None:
    if row.startswith("coreml"):
        pytest.importorskip("coremltools")
    for words in commands(base, tmp_path)[row]:
        neuropbr(*words)


def test_tensorboard_reads_the_runs(base: Path) -> None:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    runs = EventMultiplexer().AddRunsFromDirectory(str(base / "runs")).Reload().Runs()
    assert "teacher/tensorboard" in runs


def test_every_row_has_a_command_somewhere(base: Path, tmp_path: Path) -> None:
    assert {*commands(base, tmp_path), "tensorboard --logdir checkpoints/logs"} == set(FLAGS)
    # Each preset is one of those that `test_recipes_run.py` trains.
    for row in PRESETS:
        name = re.findall(r"`neuropbr:(\w+)`", table("presets")[row])[0]
        assert name in SMALL
    assert sum(map(len, GUIDE.values())) >= 122
