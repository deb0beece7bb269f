"""Loaders: memory that is used again without harm, packed and decoded images alike, and boxes of photos."""

import gc
import itertools
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuropbr_core.data.batches.batch import Buffer, BufferPool, carve, collate
from neuropbr_core.data.batches.dataset import MaterialDataset, Visit
from neuropbr_core.data.batches.loader import Loader, suitable_threads, train_loader, val_loader
from neuropbr_core.data.batches.prepare import prepare
from neuropbr_core.data.images import write_map, write_png
from neuropbr_core.data.layout.paths import CameraRecord, write_cameras
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.data.pack.choose import digest_images, open_images
from neuropbr_core.data.pack.store import DecodedImages, PackedImages
from neuropbr_core.datasets.layout.source import LayoutSource
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.cameras import sample_cameras
from neuropbr_core.recipe.sections import Data, Jitter

SAMPLES, SIZE, CROP = 5, 96, 32


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Five samples of random pixels, two materials, real cameras."""
    folder, rng = tmp_path_factory.mktemp("dataset"), np.random.default_rng(0)
    names, cameras = {}, {}
    for index in range(SAMPLES):
        name = f"sample_{index:04d}"
        names[name] = f"m{index % 2}"
        taken = sample_cameras(torch.Generator().manual_seed(index), 3)
        cameras[name] = tuple(CameraRecord(camera.homography.tolist(), camera.position.tolist()) for camera in taken)
        for view in range(3):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            write_png(folder / "input/clean" / name / f"{view}.png", pixels)
    for material, spec in itertools.product(("m0", "m1"), MAPS.values()):
        stored = rng.integers(0, 256, (spec.channels, SIZE, SIZE), dtype=np.uint8)
        write_map(folder / "output" / material, spec, stored)
    (folder / "input/render_metadata.json").write_text(json.dumps(names))
    write_cameras(folder / "input/cameras.json", cameras)
    return folder


@pytest.fixture
def data(root):
    return Data(
        root=str(root),
        image_size=SIZE,
        output_size=SIZE,
        crop_size=CROP,
        repeats=3,
        augment=True,
        alignment="recorded",
        pack=str(root / "pack"),
    )


def opened(data, *, train=True, **options):
    source, samples = LayoutSource(data), find_samples(data)
    images = open_images(source, samples, data, digest_images(source, samples))
    return MaterialDataset(samples, data, images, train=train, **options)


def parts(batch):
    tensors = {"views": batch.views, "crop_to_texture": batch.crop_to_texture, **batch.targets}
    optional = {"homographies": batch.homographies, "positions": batch.positions, "gains": batch.gains}
    return tensors | {name: tensor for name, tensor in optional.items() if tensor is not None}


def copied(batch):
    return {name: tensor.clone() for name, tensor in parts(batch).items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def loaded(dataset, threads, **options):
    loader = train_loader(dataset, 4, seed=0, epoch=1, num_workers=threads, **options)
    return [(batch.ids, copied(batch)) for batch in loader]


@pytest.mark.parametrize("alignment", ["none", "recorded"])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_pack_changes_nothing_whatever_the_number_of_threads(data, alignment, threads):
    data = replace(data, alignment=alignment)
    packed, decoded = opened(data), opened(replace(data, pack="off"))
    assert isinstance(packed.images, PackedImages)
    assert isinstance(decoded.images, DecodedImages)
    expected = loaded(decoded, 0)
    assert len(expected) == 3
    for (ids, found), (expected_ids, wanted) in zip(loaded(packed, threads), expected, strict=True):
        assert ids == expected_ids
        assert_equal(found, wanted)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("skipped", [1, 2, 3])
def test_an_interrupted_epoch_continues_exactly(data, threads, skipped):
    whole, rest = loaded(opened(data), threads), loaded(opened(data), threads, skip_steps=skipped)
    assert len(rest) == len(whole) - skipped
    for (ids, found), (expected_ids, wanted) in zip(rest, whole[skipped:], strict=True):
        assert ids == expected_ids
        assert_equal(found, wanted)


@pytest.mark.parametrize("jitter", [Jitter(), Jitter(exposure=1.0, color=0.1, alignment=3.0)])
@pytest.mark.parametrize("train", [True, False])
def test_boxes_are_prepared_as_whole_photos_are(data, train, jitter):
    dataset = opened(replace(data, jitter=jitter), train=train)
    visits = [Visit(0, number) for number in range(SAMPLES)]
    (batch,) = Loader(dataset, [visits])
    items = collate([dataset[visit] for visit in visits])
    assert items.views.shape[-2:] == (SIZE, SIZE)
    assert batch.views.nbytes < items.views.nbytes or not train
    assert_equal(batch.targets, items.targets)
    boxed, full = prepare(batch, dataset.data, "cpu"), prepare(items, dataset.data, "cpu")
    assert torch.equal(boxed.visible, full.visible)
    assert boxed.visible.mean() > 0.5
    torch.testing.assert_close(boxed.views, full.views, rtol=0, atol=2e-4)
    assert torch.equal(boxed.directions, full.directions)


def test_a_batch_stays_as_it_is_while_it_is_held(data):
    dataset = opened(data)
    loader = train_loader(dataset, 2, seed=0, epoch=0, num_workers=0)
    held = [(batch, copied(batch)) for batch in loader]
    assert len(held) == 7
    for batch, before in held:
        assert_equal(parts(batch), before)


def test_any_part_of_a_batch_keeps_all_of_it(data):
    loader = iter(val_loader(opened(data, train=False), 1))
    view = next(loader).views[0, 0].numpy()
    before = view.copy()
    for batch in loader:
        assert not np.shares_memory(batch.views.numpy(), view)
    np.testing.assert_array_equal(view, before)


def addresses(loader, *, hold):
    found, held = [], []
    for batch in loader:
        found.append(batch.views.untyped_storage().data_ptr())
        held.append(batch if hold else None)
        del batch
    return found


def test_a_loop_that_lets_go_runs_in_the_memory_of_one_batch(data):
    dataset = opened(data, train=False)
    assert len(set(addresses(val_loader(dataset, 1), hold=False))) == 1
    assert len(set(addresses(val_loader(dataset, 1), hold=True))) == SAMPLES


def test_an_ordinary_loop_runs_in_the_memory_of_two(data):
    found = {batch.views.untyped_storage().data_ptr() for batch in val_loader(opened(data, train=False), 1)}
    assert len(found) == 2


def test_memory_is_used_by_the_next_epoch_too(data):
    dataset = opened(data, train=False)
    first = addresses(val_loader(dataset, 1), hold=False)
    assert addresses(val_loader(dataset, 1), hold=False) == first


def test_a_pool_keeps_no_more_than_two_pieces():
    pool = BufferPool()
    lent = [pool.take(100 * (number + 1)) for number in range(5)]
    assert pool.spare_bytes == 0
    del lent
    assert pool.spare_bytes == 500 + 400
    assert pool.take(450).untyped_storage().nbytes() == 450
    assert pool.spare_bytes == 900


def test_a_pool_gives_up_pieces_that_are_too_small():
    pool = BufferPool()
    pool.take(100)
    assert pool.spare_bytes == 100
    piece = pool.take(200)
    assert pool.spare_bytes == 0
    del piece
    assert pool.spare_bytes == 200


def test_tensors_in_one_piece_do_not_overlap():
    wanted = {"a": Buffer((3, 5)), "b": Buffer((2, 7, 1), torch.float16), "c": Buffer((64,))}
    tensors = carve(BufferPool(), wanted)
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()} == wanted
    for value, tensor in enumerate(tensors.values()):
        tensor.fill_(value)
    assert [tensor.unique().tolist() for tensor in tensors.values()] == [[0], [1], [2]]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 1


def test_threads_suit_decoding_only(data):
    assert suitable_threads(opened(data)) == 0
    assert 1 <= suitable_threads(opened(replace(data, pack="off"))) <= 8


class FailingImages(DecodedImages):
    """Cannot decode anything."""

    def view(self, key):
        raise DataError(f"{key.name} is damaged")


@pytest.mark.parametrize("threads", [0, 2])
def test_an_image_that_cannot_be_used_is_an_error_of_the_loop(data, threads):
    images = FailingImages(LayoutSource(data), SIZE, SIZE)
    dataset = MaterialDataset(find_samples(data), data, images)
    with pytest.raises(DataError, match=r"0\.png is damaged"):
        next(iter(Loader(dataset, [[Visit(0, 0)]], threads)))


class VanishingImages(DecodedImages):
    """Images on a drive that was unplugged."""

    def view(self, key):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("threads", [0, 2])
def test_what_nobody_foresaw_in_a_thread_names_the_sample(data, threads):
    dataset = MaterialDataset(find_samples(data), data, VanishingImages(LayoutSource(data), SIZE, SIZE))
    with pytest.raises(
        DataError, match=r"sample clean/sample_0002 could not be loaded \(OSError: .*Input/output error"
    ):
        list(Loader(dataset, [[Visit(0, 2)]], threads))


class QuittingImages(DecodedImages):
    """Images whose decoder gives up on the whole program."""

    def view(self, key):
        raise SystemExit(3)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_thread_that_ends_is_an_error_that_names_the_sample(data, threads):
    dataset = MaterialDataset(find_samples(data), data, QuittingImages(LayoutSource(data), SIZE, SIZE))
    with pytest.raises(DataError, match=r"sample clean/sample_0002 could not be loaded \(SystemExit: 3\)"):
        list(Loader(dataset, [[Visit(0, 2)]], threads))


@pytest.mark.gpu
def test_memory_is_not_used_again_before_its_copy_to_the_device_is_done(data):
    dataset = opened(data, train=False)
    visits = [[Visit(0, number % SAMPLES)] for number in range(20)]
    expected = [copied(batch) for batch in Loader(dataset, visits)]
    busy, found = torch.randn(4096, 4096, device="cuda"), []
    for batch in Loader(dataset, visits, pinned=True):
        assert batch.views.is_pinned()
        for _ in range(20):
            busy = torch.tanh(busy @ busy)  # the copy waits in line behind this
        found.append(batch.to("cuda"))
        del batch
    for batch, wanted in zip(found, expected, strict=True):
        assert_equal(copied(batch.to("cpu")), wanted)


def test_leaving_a_loop_early_ends_its_threads(data):
    before = threading.active_count()
    loader = iter(train_loader(opened(data), 1, seed=0, epoch=0, num_workers=4))
    next(loader)
    assert threading.active_count() > before
    del loader
    gc.collect()
    assert threading.active_count() == before
