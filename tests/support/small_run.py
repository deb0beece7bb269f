"""Runs that were never trained: a recipe and one checkpoint with random weights, made in a moment."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from neuropbr_core.data.layout.paths import record_camera, write_cameras
from neuropbr_core.maps import MAPS
from neuropbr_core.model import Generator, ModelSpec, build_generator, save_model
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.training.checkpoints.store import BEST, LATEST, CheckpointStore

SMALL = (
    "data.synthesize=null",
    "data.val_materials=[]",
    "data.image_size=32",
    "data.output_size=32",
    "data.crop_size=null",
    "model.encoder.channels=[8, 8]",
    "model.decoder.channels=[8]",
    "model.decoder.head_channels=8",
)
"""The quickstart's network, shrunk."""

ALIGNED = ("model.view_conditioning=none", "model.reflectance_profile=false")
"""On top of `SMALL`: aligned views without directions."""

PLAIN = (*ALIGNED, "model.albedo=direct", "data.alignment=none")
"""On top of `SMALL`: plain views."""


def small_recipe(*overrides: str, base: str = "neuropbr:quickstart") -> Recipe:
    """The quickstart shrunk to a few thousand weights; takes `--set` texts."""
    return load_recipe(base, [*(SMALL if base == "neuropbr:quickstart" else ()), *overrides])


def save_run(folder: Path, recipe: Recipe, seed: int = 0, trained: Generator | None = None) -> Path:
    """Write a run whose only checkpoint has given weights, or random ones and plausible batch statistics."""
    spec = ModelSpec.from_recipe(recipe)
    generator = trained or _random_generator(spec, seed)
    RunFolder(folder).write_recipe(recipe)
    store = CheckpointStore(folder / "checkpoints")
    store.save("epoch_0001", lambda aside: save_model(generator.eval(), spec, aside))
    store.point(BEST, "epoch_0001")
    store.point(LATEST, "epoch_0001")
    return folder


def blank_dataset(root: Path, *, samples: int = 3, dirty: bool = False, side: int = 32) -> Path:
    """Write a dataset of black images: one material for each sample, and cameras from straight above."""
    metadata = {}
    cameras = {}
    conditions = ["clean", "dirty"] if dirty else ["clean"]
    for index in range(samples):
        sample = f"sample_{index:04d}"
        metadata[sample] = f"material_{index}"
        cameras[sample] = (record_camera(np.eye(3), [0.0, 0.0, 2.0]),) * 3
        for condition in conditions:
            folder = root / "input" / condition / sample
            folder.mkdir(parents=True)
            for view in range(3):
                Image.new("RGB", (side, side)).save(folder / f"{view}.png")
        folder = root / "output" / f"material_{index}"
        folder.mkdir(parents=True)
        for name, spec in MAPS.items():
            Image.new("RGB" if spec.channels == 3 else "L", (side, side)).save(folder / f"{name}.png")
    (root / "input" / "render_metadata.json").write_text(json.dumps(metadata))
    write_cameras(root / "input" / "cameras.json", cameras)
    return root


def _random_generator(spec: ModelSpec, seed: int) -> Generator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = build_generator(spec)
        for name, buffer in generator.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
            elif name.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn_like(buffer))
    return generator
