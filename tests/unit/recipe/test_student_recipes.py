"""The student recipes: their declared sizes are true, and they are as light as they are said to be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neuropbr_core.data.images import read_map, write_map, write_png
from neuropbr_core.data.opening import open_dataset
from neuropbr_core.errors import ModelError, RecipeError
from neuropbr_core.files import write_text
from neuropbr_core.maps import MAPS
from neuropbr_core.model import ModelSpec, build_generator
from neuropbr_core.model.cost import cost
from neuropbr_core.recipe import load_recipe

SIZES = {
    "student_mobilenetv3_512": (512, 1024),
    "student_mobilenetv3_2048": (2048, 2048),
    "student_convattn_1024": (1024, 1024),
}
BUDGETS = {
    "student_mobilenetv3_512": (4.97, 43),
    "student_mobilenetv3_2048": (4.96, 667),
    "student_convattn_1024": (7.63, 129),
}
"""Millions of parameters, and GFLOP of a forward pass."""


@pytest.mark.parametrize("name", SIZES)
def test_declared_sizes_are_true(name: str) -> None:
    recipe = load_recipe(f"neuropbr:{name}")
    assert (recipe.data.image_size, recipe.data.output_size) == SIZES[name]
    with torch.device("meta"), torch.no_grad():
        generator = build_generator(ModelSpec.from_recipe(recipe))
        size = recipe.data.image_size
        maps = generator(torch.zeros(1, recipe.data.views, 3, size, size)).maps
    side = recipe.data.output_size
    assert {key: value.shape for key, value in maps.items()} == {
        key: (1, spec.channels, side, side) for key, spec in MAPS.items()
    }


@pytest.mark.parametrize("name", BUDGETS)
def test_students_are_light(name: str) -> None:
    total = cost(load_recipe(f"neuropbr:{name}")).total
    millions, giga = BUDGETS[name]
    assert total.parameters / 1e6 == pytest.approx(millions, abs=0.05)
    assert total.flops / 1e9 == pytest.approx(giga, abs=0.5)


def test_the_guide_is_followed() -> None:
    recipes = {name: load_recipe(f"neuropbr:{name}") for name in SIZES}
    assert all(recipe.data.render_curriculum == "auto" for recipe in recipes.values())
    for name in ("student_mobilenetv3_512", "student_mobilenetv3_2048"):
        assert (recipes[name].fusion.options.dim, recipes[name].fusion.options.depth) == (256, 2)
    attention = recipes["student_convattn_1024"]
    assert attention.training.epochs == 60
    assert (attention.fusion.options.kernel_size, attention.fusion.options.blocks) == (17, 3)
    assert attention.fusion.options.channels == 320


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("scale", [0, 2, 4])
@pytest.mark.parametrize("fusion", ["{use: vit, dim: 8, heads: 2, depth: 1}", "{use: convattn, channels: 8}"])
def test_every_stem_stride_and_super_resolution_makes_the_declared_size(
    stem_stride: int, scale: int, fusion: str
) -> None:
    side = 64 * max(scale, 1)
    recipe = load_recipe(
        "neuropbr:student_mobilenetv3_512",
        [
            f"data={{image_size: 64, output_size: {side}}}",
            f"model.encoder={{variant: small, stem_stride: {stem_stride}}}",
            f"model.fusion={fusion}",
            f"model.decoder={{channels: null, super_resolution: {scale}}}",
        ],
    )
    with torch.device("meta"), torch.no_grad():
        generator = build_generator(ModelSpec.from_recipe(recipe))
        prediction = generator(torch.zeros(1, 3, 3, 64, 64))
    assert generator.encoder.strides[0] == stem_stride
    assert all(value.shape[-2:] == (side, side) for value in prediction.maps.values())


@pytest.mark.parametrize(
    ("name", "change", "made"),
    [
        ("student_mobilenetv3_512", "data.output_size=512", "1024 (image_size 512 × super-resolution 2)"),
        ("student_mobilenetv3_512", "data.image_size=1024", "2048 (image_size 1024 × super-resolution 2)"),
        ("student_mobilenetv3_2048", "model.decoder.super_resolution=2", "4096 (image_size 2048 × super-resolution 2)"),
        ("student_convattn_1024", "data.image_size=512", "512 (image_size 512 × super-resolution 1)"),
    ],
)
def test_a_size_that_the_student_does_not_make_is_an_error(name: str, change: str, made: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(f"neuropbr:{name}", [change])
    assert f"but the model makes {made}" in str(raised.value)


def test_widths_for_another_stem_stride_are_refused() -> None:
    recipe = load_recipe("neuropbr:student_mobilenetv3_512", ["model.encoder.stem_stride=1"])
    with torch.device("meta"), pytest.raises(ModelError, match=r"lists 5 widths, but this encoder needs 4: one for"):
        build_generator(ModelSpec.from_recipe(recipe))


@pytest.mark.parametrize("stored", [32, 48, 100])
def test_targets_are_resized_to_the_output_size_and_nothing_else(stored: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(2):
        for view in range(3):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            write_png(tmp_path / f"input/dirty/sample_000{index}/{view}.png", pixels)
        for spec in MAPS.values():
            values = rng.integers(0, 256, (spec.channels, stored, stored), dtype=np.uint8)
            write_map(tmp_path / f"output/m{index}", spec, values)
    write_text(tmp_path / "input/render_metadata.json", '{"sample_0000": "m0", "sample_0001": "m1"}')
    sizes = ["data.image_size=32", "data.output_size=64", "data.val_ratio=0.5", "data.pack=off"]
    dataset = open_dataset(load_recipe("neuropbr:student_mobilenetv3_512", [f"data.root={tmp_path}", *sizes]))
    for part in (dataset.train, dataset.val):
        item = part[0]
        assert item.views.shape[-2:] == (32, 32)
        for name, spec in MAPS.items():
            expected = read_map(tmp_path / "output" / item.material / spec.file_name, spec, size=64)
            np.testing.assert_array_equal(item.targets[name], expected)
