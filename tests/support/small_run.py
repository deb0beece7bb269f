"""Runs that were never trained: a recipe and one checkpoint with random weights, made in a moment."""

from pathlib import Path

import torch

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
