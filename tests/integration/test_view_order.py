"""The order of aligned views means nothing to a generator, whatever its parts."""

from collections.abc import Callable

import pytest
import torch

from neuropbr_core.data.batches.batch import collate
from neuropbr_core.data.batches.prepare import prepare
from neuropbr_core.data.opening import open_dataset
from neuropbr_core.model import ModelSpec, build_generator
from neuropbr_core.recipe.sections import Recipe


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("model.skip_merge=mean", "model.fusion={use: vit, dim: 16, heads: 2, depth: 2}"),
        ("model.fusion={use: window, dim: 16, heads: 2, depth: 2, window: 4, pooled: 3}",),
        ("model.fusion={use: convattn, channels: 8, blocks: 1, kernel_size: 5}", "model.ratio_images=false"),
    ],
    ids=["quickstart", "vit", "window", "convattn"],
)
def test_permuted_views_give_the_same_maps(make_recipe: Callable[..., Recipe], settings: tuple[str, ...]) -> None:
    recipe = make_recipe("data.crop_size=null", *settings)
    dataset = open_dataset(recipe)
    prepared = prepare(collate([dataset.val[0]]), recipe.data, "cpu")
    assert prepared.directions is not None
    torch.manual_seed(0)
    generator = build_generator(ModelSpec.from_recipe(recipe)).eval()
    with torch.no_grad():
        for parameter in generator.parameters():  # what starts at zero must not hide a difference
            parameter.add_(0.02 * torch.randn_like(parameter))
        expected = generator(prepared.views, prepared.visible, prepared.directions).maps
        for order in ([2, 0, 1], [1, 0, 2]):
            views = (prepared.views[:, order], prepared.visible[:, order], prepared.directions[:, order])
            for name, found in generator(*views).maps.items():
                assert (found - expected[name]).abs().max() < 1 / 255, name
        other = generator(prepared.views[:, :2], prepared.visible[:, :2], prepared.directions[:, :2]).maps
        assert any((other[name] - expected[name]).abs().max() > 1 / 255 for name in other), "views do matter"
