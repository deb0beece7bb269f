"""A photo gives the network the same pixels in training and in inference."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neuropbr_core.data.batches.batch import collate
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.loader import val_loader
from neuropbr_core.data.batches.prepare import Prepared, prepare
from neuropbr_core.data.images import write_map, write_png
from neuropbr_core.data.layout.paths import CameraRecord, write_cameras
from neuropbr_core.data.opening import open_dataset
from neuropbr_core.data.pack.store import packed_images
from neuropbr_core.exporting import Signature
from neuropbr_core.exporting.inputs import prepare_inputs
from neuropbr_core.inference.views import read_views
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.cameras import sample_cameras
from neuropbr_core.model import ModelSpec
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe

INPUT = 64
SIZES = {
    "smaller": (40, 48),
    "equal": (64, 64),
    "slightly larger": (96, 72),
    "much larger": (700, 512),
    "thin": (40, 300),
}


@pytest.fixture(scope="module", params=SIZES)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sample of three photos with sharp edges and noise, of one of the sizes."""
    folder = tmp_path_factory.mktemp("dataset")
    height, width = SIZES[request.param]
    rng = np.random.default_rng(0)
    for view in range(3):
        pixels = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
        pixels[:: 7 + view, :, :] += 140
        pixels[:, :: 5 + view, :] //= 2
        write_png(folder / f"input/clean/sample_0000/{view}.png", pixels)
    for spec in MAPS.values():
        write_map(folder / "output/oak", spec, np.full((spec.channels, INPUT, INPUT), 128, np.uint8))
    (folder / "input/render_metadata.json").write_text(json.dumps({"sample_0000": "oak"}))
    taken = sample_cameras(torch.Generator().manual_seed(3), 3)
    records = tuple(CameraRecord(camera.homography.tolist(), camera.position.tolist()) for camera in taken)
    write_cameras(folder / "input/cameras.json", {"sample_0000": records})
    return folder


def recipe_for(root: Path, alignment: str, *changes: str) -> Recipe:
    plain = [
        "model.view_conditioning=none",
        "model.albedo=direct",
        "model.ratio_images=false",
        "model.reflectance_profile=false",
    ]
    sizes = [f"data.image_size={INPUT}", f"data.output_size={INPUT}", "data.crop_size=null", "data.synthesize=null"]
    where = [
        f"data.root={root}",
        f"data.alignment={alignment}",
        "data.val_ratio=0",
        "data.val_materials=[]",
        "data.pack=off",
    ]
    return load_recipe("neuropbr:quickstart", [*plain, *sizes, *where, *changes])


def psnr(found: Tensor, expected: Tensor) -> float:
    mean = (found - expected).square().mean().item()
    return 10 * math.log10(1 / mean) if mean else math.inf


def trained_on(dataset: MaterialDataset) -> list[Prepared]:
    """The sample as it is read alone, and as a loader reads it."""
    (batch,) = val_loader(dataset, 1)
    return [prepare(each, dataset.data, "cpu") for each in (collate([dataset[0]]), batch)]


@pytest.mark.parametrize(("alignment", "view_size"), [("none", INPUT), ("recorded", INPUT), ("recorded", 160)])
def test_training_and_inference_see_the_same(root: Path, alignment: str, view_size: int) -> None:
    recipe = recipe_for(root, alignment, f"data.view_size={view_size}")
    signature = Signature.of(ModelSpec.from_recipe(recipe))
    found = prepare_inputs(read_views(root / "input/clean/sample_0000").photos, signature)
    for expected in trained_on(open_dataset(recipe).all):
        assert psnr(found["views"], expected.views) >= 60
        if alignment == "recorded":
            assert torch.equal(found["visible"], expected.visible)


def test_packs_hold_the_same_pixels(root: Path, tmp_path: Path) -> None:
    recipe = recipe_for(root, "none")
    packed = open_dataset(replace(recipe, data=replace(recipe.data, pack=str(tmp_path / "pack"))))
    assert packed_images(tmp_path / "pack")
    for first, second in zip(trained_on(packed.all), trained_on(open_dataset(recipe).all), strict=True):
        assert torch.equal(first.views, second.views)
