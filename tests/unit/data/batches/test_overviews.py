"""Overviews beside crops: what they show, that they are made once, and that they reach the generator."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuropbr_core.data.batches.batch import collate
from neuropbr_core.data.batches.loader import train_loader
from neuropbr_core.data.batches.prepare import prepare
from neuropbr_core.data.opening import OpenedDataset, open_dataset
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.model.profile import overview_of, reflectance_profile
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe, Synthesize


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captures")
    synthesize(Synthesize("neuropbr:examples/materials", samples=8, size=64), folder)
    return folder


def opened(root: Path, *changes: str) -> tuple[Recipe, OpenedDataset]:
    sizes = ["data.image_size=64", "data.output_size=64", "data.crop_size=32", "data.synthesize=null"]
    recipe = load_recipe(
        "neuropbr:quickstart", [*sizes, f"data.root={root}", "model.reflectance_profile=true", *changes]
    )
    return recipe, open_dataset(recipe)


def test_an_overview_shows_the_frame_that_the_crop_is_of(root: Path) -> None:
    recipe, dataset = opened(root)
    beside = prepare(collate([dataset.train[0]]), recipe.data, "cpu").overview
    whole = prepare(collate([dataset.train.whole()[0]]), recipe.data, "cpu")
    assert beside is not None
    assert whole.overview is None
    assert whole.directions is not None
    wanted = overview_of(whole.views, whole.visible, whole.directions)
    inside = (wanted.visible == 1) & (beside.visible == 1)
    assert inside.float().mean() > 0.7
    assert ((beside.views - wanted.views).abs() * inside).mean() < 0.01
    torch.testing.assert_close(beside.directions, wanted.directions, atol=1e-3, rtol=0)
    difference = (reflectance_profile(beside) - reflectance_profile(wanted)).abs()
    assert difference.mean() < 0.05


def test_loaders_give_the_same_overviews_and_make_them_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, dataset = opened(root)
    first = next(iter(train_loader(dataset.train, 4, seed=0, epoch=0, num_workers=0)))
    assert first.overview_pixels is not None
    assert first.overview_pixels.shape == (4, 3, 4, 32, 32)
    assert "overview" not in first.targets
    monkeypatch.setattr(dataset.train.overviews, "_images", None)  # anything made again would raise
    for index, visit in enumerate(first.ids):
        item = next(i for i, sample in enumerate(dataset.train.samples) if sample.id == visit)
        found = dataset.train[item].overview_pixels
        assert found is not None
        assert torch.equal(found, first.overview_pixels[index])


def test_views_are_chosen_in_the_overview_too(root: Path) -> None:
    recipe, dataset = opened(root)
    batch = collate([dataset.train[0]])
    whole, chosen = (prepare(each, recipe.data, "cpu").overview for each in (batch, batch.with_views((0, 2))))
    assert whole is not None
    assert chosen is not None
    for every, some in zip(whole, chosen, strict=True):
        assert torch.equal(every[:, [0, 2]], some)


def test_colour_jitter_changes_the_overview_as_it_changes_the_crop(root: Path) -> None:
    recipe, dataset = opened(root, "data.jitter.exposure=1")
    batch = collate([dataset.train[0]])
    assert batch.gains is not None
    brightened = prepare(batch, recipe.data, "cpu").overview
    plain = prepare(replace(batch, gains=None), recipe.data, "cpu").overview
    assert brightened is not None
    assert plain is not None
    assert (brightened.views - plain.views).abs().mean() > 0.02


@pytest.mark.parametrize("change", ["model.reflectance_profile=false", "data.crop_size=null", "data.crop_size=64"])
def test_there_is_none_where_none_is_needed(root: Path, change: str) -> None:
    _, dataset = opened(root, change)
    assert dataset.train[0].overview_pixels is None
    assert dataset.val.overviews is None
