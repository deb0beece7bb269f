"""Drawn visits as batches: the same whatever loads them, mixed with samples, and never of what is held back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuropbr_core.contracts import Crop, DrawnVisit, VisitDrawer
from neuropbr_core.data.batches.batch import Batch
from neuropbr_core.data.batches.dataset import MaterialDataset, Visit
from neuropbr_core.data.batches.drawn import DrawnDataset
from neuropbr_core.data.batches.loader import suitable_threads, train_loader
from neuropbr_core.data.batches.prepare import prepare
from neuropbr_core.data.opening import OpenedDataset, open_dataset
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import DataError, RecipeError
from neuropbr_core.materials.alignment import view_directions
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Synthesize

MATERIALS = "neuropbr:examples/materials"
Open = Callable[..., OpenedDataset]


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("captures")
    synthesize(Synthesize(MATERIALS, samples=8, size=32, seed=1), root)
    return root


@pytest.fixture(scope="module")
def open_live(captures: Path) -> Open:
    def opened(*overrides: str) -> OpenedDataset:
        small = (
            f"data.root={captures}",
            "data.synthesize=null",
            "data.val_materials=[acg_Bricks102, t3_Sci-Fi_Wall_014]",
            "data.image_size=32",
            "data.view_size=32",
            "data.output_size=32",
            "data.crop_size=16",
            "data.source.procedural=2",
            "data.source.texture_size=64",
            "data.source.visits=24",
            "data.source.share=0.5",
            "data.source.light.drawn_environments=2",
        )
        return open_dataset(load_recipe("neuropbr:flash_live", [*small, *overrides]))

    return opened


def batches(dataset: MaterialDataset, threads: int, epoch: int = 1, skip: int = 0) -> list[Batch]:
    loader = train_loader(dataset, 4, seed=5, epoch=epoch, num_workers=threads, skip_steps=skip)
    return list(loader)


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.ids == other.ids
    assert one.materials == other.materials
    for name in ("views", "visible_pixels", "overview_pixels", "positions", "crop_to_texture"):
        first, second = getattr(one, name), getattr(other, name)
        assert torch.equal(first, second), name
    for name, target in one.targets.items():
        assert torch.equal(target, other.targets[name]), name


def test_batches_depend_on_seed_epoch_and_visit_alone(open_live: Open) -> None:
    dataset = open_live().train
    alone = batches(dataset, 0)
    for threads in (1, 3):
        for one, other in zip(alone, batches(open_live().train, threads), strict=True):
            assert_equal(one, other)
    for one, other in zip(alone[2:], batches(dataset, 2, skip=2), strict=True):
        assert_equal(one, other)
    assert not torch.equal(alone[0].views, batches(dataset, 0, epoch=2)[0].views)


def test_results_do_not_depend_on_how_many_threads_torch_uses(open_live: Open) -> None:
    dataset = open_live("data.source.share=1").train
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = batches(dataset, 0)
        torch.set_num_threads(2)
        together = batches(dataset, 2)
        assert torch.get_num_threads() == 2, "drawing in other threads changed this one's"
    finally:
        torch.set_num_threads(before)
    for one, other in zip(alone, together, strict=True):
        assert_equal(one, other)


def test_visits_are_drawn_as_often_as_the_share_says(open_live: Open) -> None:
    for share in (0.0, 0.25, 1.0):
        dataset = open_live(f"data.source.share={share}", "data.source.visits=2000").train
        assert isinstance(dataset, DrawnDataset)
        drawn = [dataset.is_drawn(Visit(0, number)) for number in range(len(dataset))]
        assert np.mean(drawn) == pytest.approx(share, abs=0.03)


def test_visits_of_samples_are_aligned_as_the_device_aligns_them(open_live: Open) -> None:
    opened = open_live("data.source.share=0")
    drawn = opened.train
    assert isinstance(drawn, DrawnDataset)
    plain = MaterialDataset(drawn.samples, drawn.data, drawn.images, train=True, seed=drawn.seed, overviews=True)
    for one, other in zip(batches(drawn, 0), _same_visits(plain, drawn), strict=True):
        assert one.ids == other.ids
        here, there = prepare(one, drawn.data, "cpu"), prepare(other, drawn.data, "cpu")
        assert float((here.views - there.views).abs().max()) <= 0.5 / 255 + 2e-3
        assert torch.equal(here.visible, there.visible)
        for name, target in here.targets.items():
            assert torch.equal(target, there.targets[name])
        assert here.directions is not None
        assert here.overview is not None
        assert there.overview is not None
        torch.testing.assert_close(here.directions, there.directions)
        torch.testing.assert_close(here.overview.views, there.overview.views)


def _same_visits(plain: MaterialDataset, drawn: MaterialDataset) -> list[Batch]:
    """Batches of a plain dataset over the visits of the other one, which has more of them in an epoch."""
    visits = train_loader(drawn, 4, seed=5, epoch=1, num_workers=0).batches
    plain.samples = plain.samples * (-(-len(drawn) // len(plain.samples)))
    found = []
    for group in visits:
        draft = plain.draft(group)
        for job in draft.jobs:
            job()
        found.append(draft.batch)
    return found


def test_a_prepared_batch_has_everything_that_a_network_takes(open_live: Open) -> None:
    opened = open_live("data.source.share=1")
    batch = batches(opened.train, 0)[0]
    prepared = prepare(batch, opened.train.data, "cpu")
    assert prepared.views.shape == (4, 3, 3, 16, 16)
    assert prepared.visible.shape == (4, 3, 1, 16, 16)
    assert prepared.overview is not None
    assert prepared.overview.views.shape == (4, 3, 3, 32, 32)
    assert prepared.valid.shape == (4, 1, 16, 16)
    assert prepared.directions is not None
    assert batch.positions is not None
    torch.testing.assert_close(prepared.directions, view_directions(batch.positions, batch.crop_to_texture, 16))
    lengths = prepared.targets["normal"].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    fewer = prepare(batch.with_views((0, 2)), opened.train.data, "cpu")
    assert torch.equal(fewer.visible, prepared.visible[:, [0, 2]])
    item = opened.train[0]
    assert item.visible_pixels is not None
    assert item.views.shape == (3, 3, 16, 16)


def test_held_back_materials_and_their_lookalikes_are_never_drawn(open_live: Open) -> None:
    opened = open_live(
        "data.source.procedural=0",
        "data.source.share=1",
        "data.source.visits=200",
        "data.val_materials=[acg_Bricks102, acg_Tiles032, acg_Rock053]",
        "data.groups={rocks: [acg_Rock053], tiles: [acg_Tiles032]}",
    )
    shown = {name for batch in batches(opened.train, 0) for name in "+".join(batch.materials).split("+")}
    assert shown
    held_back = {"acg_Bricks102", "acg_Tiles032", "acg_Rock053"}
    assert shown.isdisjoint(held_back)
    assert opened.drawn is not None
    assert shown <= set(opened.drawn)
    assert held_back.isdisjoint(opened.drawn)
    assert {sample.material for sample in opened.val.samples} == held_back


def test_validation_shows_photographs(open_live: Open) -> None:
    opened = open_live()
    assert not isinstance(opened.val, DrawnDataset)
    assert len(opened.val) == 2
    assert not isinstance(opened.all, DrawnDataset)


def test_the_record_of_a_run_names_what_visits_depend_on(open_live: Open) -> None:
    names = {
        open_live(*settings).fingerprint
        for settings in (
            (),
            ("data.source.procedural=3",),
            ("data.source.cells.metal=0.1",),
            ("data.source.seed=1",),
            ("data.source.texture_size=128",),
        )
    }
    assert len(names) == 5
    assert open_live().fingerprint in names


def test_drawing_is_loaded_ahead(open_live: Open) -> None:
    assert suitable_threads(open_live().train) >= 1


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("data.source.share=1.5", "share"),
        ("data.source.cells.metal=-0.1", "metal"),
        ("data.source.cameras.distance=[0.1, 3]", "distance"),
        ("data.source.photos.free_stops=9", "free_stops"),
        ("data.source.light.offset_length=[0.1, 2]", "offset_length"),
        ("data.source.editing.zom=[1, 2]", "zoom"),
        ("data.source.texture_size=100", "texture_size"),
    ],
)
def test_options_out_of_range_are_refused(open_live: Open, setting: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        open_live(setting)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        (
            "data.source.photos={automatic: 0.7, free: 0.6}",
            r"data\.source\.photos\.free: is 0\.6, with `automatic` more",
        ),
        ("data.source.cameras.tilt=[50, 20]", r"data\.source\.cameras\.tilt: the range begins at 50"),
        ("data.source.materials=[/nowhere]", "/nowhere"),
        ("data.source.light.environments=/nowhere", "/nowhere"),
    ],
)
def test_what_cannot_be_drawn_from_is_named(open_live: Open, setting: str, named: str) -> None:
    with pytest.raises(DataError, match=named):
        open_live(setting)


class Constant(VisitDrawer):
    """The least that a third party has to write."""

    visits = 4

    def draw(self, rng: np.random.Generator, crop: Crop) -> DrawnVisit:
        shade = int(rng.integers(1, 256))
        size = crop.side * crop.scale
        maps = {"albedo": 3, "roughness": 1, "metallic": 1, "normal": 3}
        return DrawnVisit(
            material="constant",
            views=np.full((crop.views, 3, crop.side, crop.side), shade, np.uint8),
            visible=np.full((crop.views, 1, crop.side, crop.side), 255, np.uint8),
            overview=np.full((crop.views, 4, 32, 32), shade, np.uint8),
            positions=np.array([[0, 0, 1.5]] * crop.views, np.float32),
            maps={name: np.full((count, size, size), 128, np.uint8) for name, count in maps.items()},
        )


def test_a_third_party_writes_one_method(open_live: Open) -> None:
    opened = open_live("data.source.share=0")
    base: Any = opened.train
    samples = MaterialDataset(base.samples, base.data, base.images, train=True, seed=1, overviews=True)
    drawn = DrawnDataset(samples, Constant())
    batch = batches(drawn, 2)[0]
    assert batch.materials == ["constant"] * 4
    assert len({int(view[0, 0, 0, 0]) for view in batch.views}) > 1
