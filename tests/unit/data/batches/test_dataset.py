import itertools
import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuropbr_core.data.batches.crops import place_image, place_map
from neuropbr_core.data.batches.dataset import MaterialDataset, Visit
from neuropbr_core.data.batches.loader import steps_per_epoch, suitable_threads, train_loader, val_loader
from neuropbr_core.data.images import read_map, read_view, write_map, write_png
from neuropbr_core.data.layout.paths import CameraRecord, write_cameras
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.data.pack.choose import digest_images
from neuropbr_core.data.pack.digest import fingerprint_samples
from neuropbr_core.data.pack.store import DecodedCache, DecodedImages
from neuropbr_core.datasets.layout.source import LayoutSource
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data

SAMPLES, SIZE = 7, 8


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Seven samples of random pixels, one material each, cameras at different heights."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    names = [f"sample_{index:04d}" for index in range(SAMPLES)]
    for name in names:
        for view in range(3):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            write_png(folder / "input/clean" / name / f"{view}.png", pixels)
        for spec in MAPS.values():
            stored = rng.integers(0, 256, (spec.channels, SIZE * 2, SIZE * 2), dtype=np.uint8)
            write_map(folder / "output" / f"m{name}", spec, stored)
    (folder / "input/render_metadata.json").write_text(json.dumps({name: f"m{name}" for name in names}))
    identity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    cameras = {
        name: tuple(CameraRecord(identity, (0.0, 0.0, 1.0 + view + index)) for view in range(3))
        for index, name in enumerate(names)
    }
    write_cameras(folder / "input/cameras.json", cameras)
    return folder


@pytest.fixture
def data(root):
    return Data(
        root=str(root),
        image_size=SIZE,
        output_size=SIZE * 2,
        crop_size=4,
        repeats=2,
        augment=True,
        alignment="recorded",
    )


def opened(data, *, cache=None, **options):
    images = DecodedImages(LayoutSource(data), data.image_size, data.output_size, cache)
    return MaterialDataset(find_samples(data), data, images, **options)


def visits(loader):
    return [batch.ids for batch in loader]


def equal(a, b):
    assert a.ids == b.ids
    assert torch.equal(a.views, b.views)
    assert torch.equal(a.crop_to_texture, b.crop_to_texture)
    for name in MAPS:
        assert torch.equal(a.targets[name], b.targets[name])


def test_an_item_without_training_is_the_whole_sample(data):
    dataset = opened(data)
    item = dataset[2]
    assert len(dataset) == SAMPLES
    assert (item.id, item.material) == ("clean/sample_0002", "msample_0002")
    assert torch.equal(item.crop_to_texture, torch.eye(3))
    sample = dataset.samples[2]
    assert torch.equal(item.views, torch.stack([torch.from_numpy(read_view(path)) for path in sample.views]))
    for name, spec in MAPS.items():
        assert torch.equal(item.targets[name], torch.from_numpy(read_map(sample.maps[name], spec)))
    assert item.homographies.shape == (3, 3, 3)
    assert item.positions.tolist() == [[0, 0, 3], [0, 0, 4], [0, 0, 5]]


def test_a_training_item_is_the_placed_sample(data):
    dataset = opened(data, train=True, seed=5)
    visit = Visit(3, 9)
    item, sample, placement = dataset[visit], dataset.samples[2], dataset.placement(visit)
    assert len(dataset) == 2 * SAMPLES
    assert item.id == sample.id
    assert item.views.shape == (3, 3, SIZE, SIZE)  # whole: the device warps them
    for name, spec in MAPS.items():
        expected = place_map(read_map(sample.maps[name], spec), spec, placement, 2)
        assert expected.shape[-1] == 8
        np.testing.assert_array_equal(item.targets[name], expected)


def test_unaligned_views_are_placed_like_the_maps(data):
    dataset = opened(replace(data, alignment="none"), train=True, seed=5)
    for number in range(4):
        item, placement = dataset[number], dataset.placement(Visit(0, number))
        expected = [place_image(read_view(path), placement) for path in dataset.samples[number].views]
        np.testing.assert_array_equal(item.views, np.stack(expected))
        assert item.homographies is None
        assert item.positions is None


def test_visits_differ_in_their_windows_and_epochs(data):
    dataset = opened(data, train=True)
    drawn = [dataset.placement(Visit(epoch, number)) for epoch, number in itertools.product(range(4), range(14))]
    assert len(set(drawn)) > 40
    assert drawn[0] == opened(data, train=True).placement(Visit(0, 0))
    assert drawn != [opened(data, train=True, seed=1).placement(Visit(e, n)) for e in range(4) for n in range(14)]


def test_indices_outside_are_refused(data):
    dataset = opened(data)
    with pytest.raises(IndexError, match="visit 7 of a dataset that has 7"):
        dataset[7]
    assert len(list(dataset)) == SAMPLES  # Python's own iteration ends at the IndexError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_size": 12}, "data.output_size is 12, data.image_size 8; the output's side must be a whole multiple"),
        ({"crop_size": 9}, "data.crop_size is 9, which exceeds data.image_size 8; lower it"),
    ],
)
def test_contradicting_sizes(data, changes, message):
    with pytest.raises(DataError, match=message):
        opened(replace(data, **changes))


def test_items_do_not_write_into_the_cache(data):
    dataset = opened(data)
    before = dataset[0]
    copy = before.targets["albedo"].clone()
    before.targets["albedo"].zero_()
    before.views.zero_()
    assert torch.equal(dataset[0].targets["albedo"], copy)
    assert dataset[0].views.any()


def test_each_file_is_decoded_once(data, monkeypatch):
    read = []
    monkeypatch.setattr(
        "neuropbr_core.datasets.layout.source.read_view", lambda path, size: read.append(path) or read_view(path, size)
    )
    dataset = opened(data)
    for _ in range(2):
        list(dataset)
    assert len(read) == len(set(read)) == 3 * SAMPLES
    assert dataset.images.cache.used == SAMPLES * (3 * 3 * SIZE**2 + 8 * (2 * SIZE) ** 2)


def test_the_cache_keeps_what_was_used_last_within_its_limit():
    loads = []

    def get(key):
        return cache.get(key, lambda: loads.append(key) or np.zeros(100, np.uint8))

    cache = DecodedCache(250)
    for key in "abac":  # c pushes out b
        get(key)
    assert (len(cache), cache.used) == (2, 200)
    get("a")
    get("b")
    assert loads == ["a", "b", "c", "b"]
    copy = pickle.loads(pickle.dumps(cache))  # noqa: S301
    assert (len(copy), copy.limit) == (0, 250)
    assert cache.get("big", lambda: np.zeros(1000, np.uint8)).nbytes == 1000
    assert cache.used == 200


def test_the_epoch_visits_everything_and_depends_on_seed_and_epoch(data):
    dataset = opened(data, train=True)
    orders = [
        visits(train_loader(dataset, 2, seed=seed, epoch=epoch)) for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]
    counts = {id_: sum(ids.count(id_) for ids in orders[0]) for id_ in {i for ids in orders[0] for i in ids}}
    assert len(counts) == SAMPLES
    assert set(counts.values()) == {2}


def test_leftovers_are_dropped_unless_they_are_all(data):
    dataset = opened(data, train=True)
    assert [len(ids) for ids in visits(train_loader(dataset, 4, seed=0, epoch=0))] == [4, 4, 4]
    assert [len(ids) for ids in visits(train_loader(dataset, 50, seed=0, epoch=0))] == [14]
    for size, world in itertools.product((1, 3, 4, 14, 15), (1, 2, 4)):
        loader = train_loader(dataset, size, seed=0, epoch=0, world_size=world)
        assert len(loader) == steps_per_epoch(dataset, size, world)
    empty = MaterialDataset([], data, dataset.images, train=True)
    assert len(train_loader(empty, 4, seed=0, epoch=0)) == steps_per_epoch(empty, 4) == 0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(data, threads):
    dataset = opened(data, train=True)
    alone = list(train_loader(dataset, 3, seed=0, epoch=2, num_workers=0))
    helped = list(train_loader(opened(data, train=True), 3, seed=0, epoch=2, num_workers=threads))
    for a, b in zip(alone, helped, strict=True):
        equal(a, b)


def test_resuming_within_an_epoch_continues_exactly(data):
    dataset = opened(data, train=True)
    whole = list(train_loader(dataset, 3, seed=0, epoch=1))
    rest = list(train_loader(opened(data, train=True), 3, seed=0, epoch=1, skip_steps=2))
    assert len(rest) == len(whole) - 2
    for a, b in zip(whole[2:], rest, strict=True):
        equal(a, b)


def test_loading_leaves_the_global_generator_alone(data):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    list(train_loader(opened(data, train=True), 3, seed=0, epoch=1))
    list(val_loader(opened(data), 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_processes_share_an_epoch(data):
    dataset = opened(data, train=True)
    alone = visits(train_loader(dataset, 4, seed=0, epoch=0))
    shares = [visits(train_loader(dataset, 2, seed=0, epoch=0, rank=rank, world_size=2)) for rank in range(2)]
    for step, parts in enumerate(zip(*shares, strict=True)):
        assert sorted(itertools.chain(*parts)) == sorted(alone[step])
    small = [visits(train_loader(dataset, 8, seed=0, epoch=0, rank=rank, world_size=4)) for rank in range(4)]
    assert [[len(ids) for ids in share] for share in small] == [[4]] * 4


def test_validation_goes_over_every_sample_once_in_order(data):
    dataset = opened(data)
    assert visits(val_loader(dataset, 3)) == [
        [f"clean/sample_{index:04d}" for index in part] for part in ([0, 1, 2], [3, 4, 5], [6])
    ]
    shares = [visits(val_loader(dataset, 3, rank=rank, world_size=2)) for rank in range(2)]
    ids = [list(itertools.chain(*share)) for share in shares]
    assert ids == [[f"clean/sample_{index:04d}" for index in part] for part in ([0, 2, 4, 6], [1, 3, 5, 6])]


def test_threads_only_where_images_are_decoded(data):
    dataset = opened(data)
    assert 1 <= suitable_threads(dataset) <= 8
    dataset.images.instant = True
    assert suitable_threads(dataset) == 0


def fingerprint(data, chosen=slice(None)):
    samples = find_samples(data)
    return fingerprint_samples(samples[chosen], digest_images(LayoutSource(data), samples))


def test_the_fingerprint_is_of_the_content(data, root, tmp_path):
    found = fingerprint(data)
    assert fingerprint(data, slice(None, None, -1)) == found
    assert fingerprint(data, slice(1, None)) != found
    assert fingerprint(replace(data, alignment="none")) != found
    shutil.copytree(root, tmp_path / "copy")
    moved = replace(data, root=str(tmp_path / "copy"))
    assert fingerprint(moved) == found
    pixels = np.moveaxis(read_view(tmp_path / "copy/input/clean/sample_0003/1.png"), 0, 2).copy()
    pixels[0, 0, 0] ^= 1
    write_png(tmp_path / "copy/input/clean/sample_0003/1.png", pixels)
    assert fingerprint(moved) != found
