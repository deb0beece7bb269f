"""The presets of the training guide differ from its default in what it says, and in what is marked as chosen."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from neuropbr_core.errors import RecipeError
from neuropbr_core.recipe import load_recipe
from neuropbr_core.shipped import resolve

STATED = {
    "teacher_default": {
        "model.encoder.variant": "resnet50",
        "model.encoder.stem_stride": 1,
        "model.fusion.dim": 2048,
        "model.fusion.heads": 32,
        "model.fusion.depth": 4,
        "model.fusion.mlp_ratio": 4,
        "losses.l1.weight": 1.0,
        "losses.ssim.weight": 0.3,
        "losses.normal.weight": 0.5,
        "losses.gan.weight": 0.05,
        "losses.gan.mode": "hinge",
        "losses.gan.start_epoch": 5,
        "losses.gan.critic": "configurable",
        "losses.gan.layers": 6,
        "losses.gan.width": 64,
        "losses.gan.sigmoid": False,
        "losses.gan.critic_steps": 1,
        "optimizer.scheduler": "cosine",
        "optimizer.min_lr": 1e-6,
        "optimizer.warmup_epochs": 5,
        "training.grad_clip_norm": 1.0,
        "training.seed": 42,
        "training.save_every_n_epochs": 5,
        "training.save_best_only": False,
        "training.log_every_n_steps": 10,
        "training.log_images_every_n_epochs": 5,
        "data.val_ratio": 0.1,
        "data.image_size": 2048,
        "data.render_curriculum": 0,
        "observers.tensorboard.use": "neuropbr:tensorboard",
    },
    "quick_test": {"model.encoder.variant": "resnet18", "model.fusion.depth": 2, "training.epochs": 20},
    "lightweight": {"model.encoder.variant": "resnet50", "losses.gan": None},
    "high_quality": {"model.encoder.variant": "resnet101", "model.fusion.depth": 6},
    "fast_iteration": {"model.encoder.variant": "resnet18"},
    "normal_focused": {"model.encoder.variant": "resnet50"},
}


ORIGINAL = {
    "teacher_default": {
        "optimizer.lr": 2e-4,
        "optimizer.critic_lr": 2e-4,
        "optimizer.betas": [0.5, 0.999],
        "optimizer.weight_decay": 1e-4,
        "model.fusion.dropout": 0.1,
        "model.fusion.drop_path": 0.1,
        "training.epochs": 100,
    },
    "quick_test": {"model.fusion.heads": 16, "optimizer.warmup_epochs": 2, "training.save_every_n_epochs": 1},
    "lightweight": {"losses.ssim.weight": 0.5, "losses.normal.weight": 0.7},
    "high_quality": {
        "model.encoder.stem_stride": 2,
        "losses.ssim.weight": 0.5,
        "losses.normal.weight": 0.8,
        "losses.gan.weight": 0.1,
        "losses.gan.start_epoch": 10,
        "losses.l1.albedo": 1.2,
        "optimizer.lr": 1e-4,
        "optimizer.critic_lr": 2e-4,
        "optimizer.warmup_epochs": 10,
        "training.epochs": 200,
    },
    "normal_focused": {
        "model.encoder.stem_stride": 2,
        "losses.l1.albedo": 0.8,
        "losses.l1.roughness": 0.8,
        "losses.l1.metallic": 0.8,
        "losses.l1.normal": 2.0,
        "losses.ssim.weight": 0.2,
        "losses.normal.weight": 1.5,
        "losses.gan.weight": 0.08,
        "losses.gan.start_epoch": 8,
        "optimizer.lr": 1.5e-4,
        "training.epochs": 150,
    },
    "fast_iteration": {
        "model.encoder.stem_stride": 2,
        "model.fusion.depth": 2,
        "model.fusion.heads": 16,
        "training.epochs": 50,
        "training.save_every_n_epochs": 10,
        "training.validate_every_n_epochs": 2,
    },
    "student_mobilenetv3_512": {
        "model.fusion.heads": 4,
        "model.fusion.mlp_ratio": 2,
        "losses.distillation.alpha": 0.3,
        "losses.distillation.temperature": 4.0,
        "optimizer.lr": 2e-4,
        "training.effective_batch": 8,
    },
    "student_mobilenetv3_2048": {"training.effective_batch": 2, "training.save_every_n_epochs": 1},
    "student_convattn_1024": {
        "losses.distillation.alpha": 0.3,
        "losses.distillation.temperature": 4.0,
        "optimizer.lr": 1e-4,
        "optimizer.betas": [0.9, 0.999],
        "training.effective_batch": 4,
    },
}
"""Values of the published configurations on which the guide is silent."""


def value(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


@pytest.mark.parametrize("name", STATED)
def test_a_preset_has_the_guides_values(name: str) -> None:
    tree = load_recipe(f"neuropbr:{name}").tree
    assert {path: value(tree, path) for path in STATED[name]} == STATED[name]
    assert "wandb" not in tree["observers"]


@pytest.mark.parametrize("name", ORIGINAL)
def test_where_the_guide_is_silent_a_preset_has_the_original_values(name: str) -> None:
    tree = load_recipe(f"neuropbr:{name}").tree
    assert {path: value(tree, path) for path in ORIGINAL[name]} == ORIGINAL[name]
    assert value(tree, "model.encoder.pretrained") == "auto"


def test_shorter_and_heavier_presets_are_what_they_are_called() -> None:
    default, fast, normals = (
        load_recipe(f"neuropbr:{name}").tree for name in ("teacher_default", "fast_iteration", "normal_focused")
    )
    assert fast["training"]["epochs"] < default["training"]["epochs"]
    assert normals["losses"]["normal"]["weight"] > default["losses"]["normal"]["weight"]
    assert normals["losses"]["l1"]["normal"] > default["losses"]["l1"]["normal"]


@pytest.mark.parametrize("name", [name for name in STATED if name != "teacher_default"])
def test_what_the_guide_does_not_state_is_marked(name: str) -> None:
    """Each value of a file is stated, or marked on its line or (for a pair) on the line before."""
    text = Path(resolve(f"neuropbr:{name}")).read_text(encoding="utf-8")
    stated = {path.rpartition(".")[2] for path in STATED[name]}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        key, _, rest = line.strip().partition(":")
        written = rest.split("#")[0].strip()
        if not line.startswith(" ") or not written:
            continue
        marked = "chosen" in line or "original" in line or f"like {key}" in lines[number - 1]
        assert key in stated or marked, f"{name}: {line.strip()}"
    assert yaml.safe_load(text)["extends"] == "neuropbr:teacher_default"


@pytest.mark.parametrize("name", [name for name in STATED if name != "lightweight"])
def test_the_simple_critic_can_be_chosen_in_every_preset(name: str) -> None:
    gan = load_recipe(f"neuropbr:{name}", ["losses.gan.critic=simple"]).losses["gan"]
    assert gan.options.critic == "simple"
    with pytest.raises(RecipeError, match="fixed at 3 layers"):
        load_recipe(f"neuropbr:{name}", ["losses.gan.critic=simple", "losses.gan.layers=4"])


def test_a_weights_file_is_not_inherited_by_another_variant(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: neuropbr:teacher_default\nmodel: {encoder: {weights: r50.safetensors}}\n")
    assert load_recipe(mine).encoder.options.weights == "r50.safetensors"
    other = tmp_path / "other.yaml"
    other.write_text("extends: mine.yaml\nmodel: {encoder: {variant: resnet101}}\n")
    assert load_recipe(other).encoder.options.weights is None
