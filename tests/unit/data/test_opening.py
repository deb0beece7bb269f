import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from neuropbr_core.contracts import CameraRecord, Sample, SampleSource
from neuropbr_core.data.batches.loader import train_loader
from neuropbr_core.data.images import write_map, write_png
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.data.opening import open_dataset, open_source
from neuropbr_core.errors import DataError
from neuropbr_core.kinds import NoEntryOptions
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data, ModelSection, Optimizer, Recipe, Training
from neuropbr_core.registry import Chosen, default_registry

MATERIALS = [f"m{index}" for index in range(6)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two samples of each material; those of even number are clean and dirty, the others clean only."""
    folder, names = tmp_path_factory.mktemp("dataset"), {}
    for number in range(12):
        name = f"sample_{number:04d}"
        names[name] = MATERIALS[number % 6]
        for source in ("clean", "dirty")[: 2 - number % 2]:
            for view in range(3):
                write_png(folder / "input" / source / name / f"{view}.png", np.full((4, 4, 3), number, np.uint8))
    for material, spec in itertools.product(MATERIALS, MAPS.values()):
        write_map(folder / "output" / material, spec, np.full((spec.channels, 4, 4), 100, np.uint8))
    (folder / "input/render_metadata.json").write_text(json.dumps(names))
    return folder


def recipe(root, **changes):
    registry = default_registry()
    none = Chosen("encoder", "encoder", "test:none", None, None, registry)
    source = registry.choose("dataset", "layout", name="source")
    return Recipe(
        name="test",
        data=Data(**({"root": str(root), "image_size": 4, "output_size": 4, "val_ratio": 0.3} | changes)),
        source=source,
        encoder=none,
        fusion=none,
        model=ModelSection(),
        teacher=None,
        losses={},
        optimizer=Optimizer(),
        training=Training(seed=7),
        observers={},
        export={},
        tree={},
    )


@pytest.mark.parametrize("curriculum", [0, 1, 2])
def test_no_material_is_on_both_sides(root, curriculum):
    dataset = open_dataset(recipe(root, render_curriculum=curriculum))
    train = {sample.material for sample in dataset.train.samples}
    val = {sample.material for sample in dataset.val.samples}
    assert train
    assert val
    assert not train & val
    assert set(dataset.split["train"]) == train
    assert set(dataset.split["val"]) >= val
    assert set(dataset.split["val"]) == set(open_dataset(recipe(root, render_curriculum=1)).split["val"])


def test_the_dataset_is_all_samples_whole(root):
    dataset = open_dataset(recipe(root, render_curriculum=1, crop_size=2, augment=True, repeats=3))
    samples = find_samples(dataset.all.data)
    assert len(dataset) == len(samples) == 18
    assert [item.id for item in dataset.all] == [sample.id for sample in samples]
    assert dataset[17].targets["albedo"].shape == (3, 4, 4)
    assert len(dataset.train) + 3 * len(dataset.val) == 3 * len(dataset)
    assert dataset.train[0].targets["albedo"].shape == (3, 2, 2)
    assert dataset.val[0].targets["albedo"].shape == (3, 4, 4)
    assert torch.equal(dataset.val[0].crop_to_texture, torch.eye(3))


def test_nothing_held_back_is_an_empty_side(root):
    dataset = open_dataset(recipe(root, val_ratio=0.0))
    assert len(dataset.val) == 0
    assert len(dataset.train) == len(dataset) == 12


def test_explicit_materials(root):
    dataset = open_dataset(recipe(root, val_materials=("m1", "m4")))
    assert {sample.material for sample in dataset.val.samples} == {"m1", "m4"}
    with pytest.raises(DataError, match="Did you mean 'm"):
        open_dataset(recipe(root, val_materials=("mm1",)))


def test_the_record_is_plain_data(root):
    dataset = open_dataset(recipe(root))
    record = json.loads(json.dumps(dataset.split))
    assert (record["seed"], record["val_ratio"]) == (7, 0.3)
    assert len(dataset.fingerprint) == 32
    assert open_dataset(recipe(root)).fingerprint == dataset.fingerprint


def test_the_seed_of_the_recipe_decides_the_windows(root):
    dataset = open_dataset(recipe(root, crop_size=2, augment=True))
    frames = [batch.crop_to_texture for batch in train_loader(dataset.train, 4, seed=7, epoch=0)]
    again = [
        batch.crop_to_texture
        for batch in train_loader(open_dataset(recipe(root, crop_size=2, augment=True)).train, 4, seed=7, epoch=0)
    ]
    assert all(torch.equal(a, b) for a, b in zip(frames, again, strict=True))


class Lists(SampleSource):
    """Lists what it is given, and is the registry that it comes from too."""

    def __init__(self, *samples):
        self.listed = samples

    def create(self, kind, use, options, **context):
        assert (kind, use, set(context)) == ("dataset", "acme:reel", {"data"})
        return self

    def find(self, kind, use):
        return f"{kind}/{use}"

    def samples(self):
        return self.listed


def chosen(*samples):
    registry: Any = Lists(*samples)
    return Chosen("dataset", "source", "acme:reel", None, NoEntryOptions(), registry)


CAMERA = CameraRecord(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 1.0))
SOUND = Sample("a", "reel", "oak", (1, 2, 3), dict.fromkeys(MAPS, 4))


@pytest.mark.parametrize(
    ("samples", "alignment", "problems"),
    [
        ([], "none", ["lists no samples"]),
        ([SOUND, SOUND], "none", ["lists 2 samples with the id a"]),
        (
            [replace(SOUND, views=(1,)), replace(SOUND, id="b", maps={"albedo": 4, "normal": 4})],
            "none",
            ["a: lists 1 views, data.views is 3", "b: lists no metallic, roughness"],
        ),
        ([SOUND], "recorded", ["a: lists 0 cameras, wanted 3, as data.alignment is recorded"]),
        ([replace(SOUND, cameras=(CAMERA,) * 3)], "none", ["a: lists 3 cameras, wanted none"]),
    ],
)
def test_what_a_source_lists_is_checked(samples, alignment, problems):
    component = chosen(*samples)
    with pytest.raises(DataError) as caught:
        open_source(component, Data(alignment=alignment))
    assert str(caught.value).splitlines() == [f"dataset/acme:reel: {problem}" for problem in problems]


def test_a_source_that_keeps_the_rules_is_opened():
    aligned = replace(SOUND, cameras=(CAMERA,) * 3)
    assert open_source(chosen(SOUND), Data())[1] == (SOUND,)
    assert open_source(chosen(aligned), Data(alignment="recorded"))[1] == (aligned,)
