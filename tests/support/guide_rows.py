"""The rows of `docs/guide.md`: what the training guide names, and the tables of the page."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "guide.md").read_text(encoding="utf-8")

KEYS = [
    *(
        f"data.{key}"
        for key in (
            "image_size",
            "output_size",
            "val_ratio",
            "render_curriculum",
        )
    ),
    *(f"data.{key}" for key in ("use_dirty_renders",)),
    *(
        f"transform.{key}"
        for key in (
            "mean",
            "std",
        )
    ),
    *(
        f"model.{key}"
        for key in (
            "encoder_type",
            "encoder_backbone",
            "encoder_stride",
            "encoder_channels",
        )
    ),
    *(
        f"model.{key}"
        for key in (
            "transformer_dim",
            "transformer_num_heads",
            "transformer_depth",
        )
    ),
    *(
        f"model.{key}"
        for key in (
            "transformer_mlp_ratio",
            "use_gan",
            "discriminator_type",
        )
    ),
    *(
        f"model.{key}"
        for key in (
            "discriminator_n_layers",
            "discriminator_ndf",
            "discriminator_use_sigmoid",
        )
    ),
    *(
        f"model.{key}"
        for key in (
            "freeze_backbone",
            "freeze_bn",
        )
    ),
    *(
        f"loss.{key}"
        for key in (
            "w_l1",
            "w_ssim",
            "w_normal",
            "w_gan",
            "w_albedo",
            "w_roughness",
            "w_metallic",
        )
    ),
    *(
        f"loss.{key}"
        for key in (
            "w_normal_map",
            "gan_loss_type",
        )
    ),
    *(
        f"optimizer.{key}"
        for key in (
            "g_lr",
            "d_lr",
            "scheduler",
            "scheduler_min_lr",
            "scheduler_warmup_epochs",
        )
    ),
    *(
        f"training.{key}"
        for key in (
            "epochs",
            "batch_size",
            "seed",
            "device",
            "use_amp",
            "grad_clip_norm",
        )
    ),
    *(
        f"training.{key}"
        for key in (
            "gan_start_epoch",
            "d_steps_per_g_step",
            "checkpoint_dir",
        )
    ),
    *(
        f"training.{key}"
        for key in (
            "save_every_n_epochs",
            "save_best_only",
            "use_tensorboard",
        )
    ),
    *(
        f"training.{key}"
        for key in (
            "log_every_n_steps",
            "log_images_every_n_epochs",
            "use_wandb",
        )
    ),
]
FLAGS = [
    "train.py",
    *(f"train.py {flag}" for flag in ("--config NAME", "--input-dir", "--output-dir", "--device", "--use-dirty")),
    *(f"train.py {flag}" for flag in ("--render-curriculum", "--batch-size", "--checkpoint-dir", "--resume")),
    "PBRDataset(…)",
    *(f"run_inference.py {flag}" for flag in ("--checkpoint", "--sample-idx", "--input-dir", "--out-dir")),
    *(f"teacher_infer.py {flag}" for flag in ("--checkpoint", "--data-root", "--shards-dir")),
    *(f"teacher_infer.py {flag}" for flag in ("--shard-output-size", "--shard-size")),
    *(f"student/train.py {flag}" for flag in ("--config", "--shards-dir", "--input-dir", "--output-dir")),
    "student/train.py --checkpoint-dir",
    *(f"coreml/converter.py {flag}" for flag in ("CHECKPOINT", "--output", "--no-fp16", "--palettization")),
    *(f"coreml/converter.py {flag}" for flag in ("--test-resolution", "--use-sr")),
    *(f"coreml/run_inference.py {flag}" for flag in ("PACKAGE", "--input", "--output")),
    "tensorboard --logdir checkpoints/logs",
]
PRESETS = [
    *("default", "quick_test", "lightweight"),
    *("configs/high_quality.py", "configs/fast_iteration.py", "configs/normal_focused.py", "configs/my_config.py"),
    *("mobilenetv3_512.py", "convattn_student.py", "mobilenetv3_2048.py"),
]
LOSSES = ["Emphasize normals", "Photographic albedo", "Disable GAN", "Custom losses"]
OUTPUTS = [
    *("checkpoints/checkpoint_epoch_0010.pth", "checkpoints/best_model.pth", "checkpoints/latest.pth"),
    *("model_inference.pth", "checkpoints/logs", "console log", "WandB run"),
    *("inference_outputs maps", "inference_outputs input views", "shards (.pt)", "pbr_model.mlpackage"),
]
SIGNALS = [
    *(
        "generator loss",
        "discriminator loss",
        "training per-map L1/MAE",
        "training SSIM",
        "training normal angle",
        "LR",
    ),
    *("validation loss", "validation overall PSNR/SSIM/MAE", "validation per-map PSNR/SSIM/MAE"),
    *("normal angle statistics", "comparison grids", "input views", "predicted vs ground truth maps", "error heatmaps"),
]
ISSUES = ["FileNotFoundError: render_metadata.json", "KeyError: sample_XXXX", '"No samples found"']
TROUBLES = [
    *("Only CPU detected", "OOM", "OOM (Fragmentation)", "Unstable GAN", "Slow convergence", "Poor normal quality"),
]
GUIDE = {
    "keys": KEYS,
    "flags": FLAGS,
    "presets": PRESETS,
    "losses": LOSSES,
    "outputs": OUTPUTS,
    "signals": SIGNALS,
    "issues": ISSUES,
    "troubles": TROUBLES,
}


def table(name: str) -> dict[str, str]:
    """Second cell of each row of a table by its first, without backticks in the first."""
    found = re.search(rf"<!-- table: {name} -->\n\|.*\n\| ---.*\n((?:\|.*\n)+)", PAGE)
    assert found is not None, name
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found[1].splitlines()]
    return {row[0].replace("`", ""): row[1] for row in cells}
