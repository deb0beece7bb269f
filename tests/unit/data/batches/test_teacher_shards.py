"""A teacher's predictions on disk, and their way through crops and turns into a batch."""

import itertools
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuropbr_core.data.batches.batch import collate
from neuropbr_core.data.batches.crops import Placement, crop_matrix, place_map
from neuropbr_core.data.batches.dataset import MaterialDataset, Visit
from neuropbr_core.data.batches.loader import train_loader
from neuropbr_core.data.batches.prepare import prepare
from neuropbr_core.data.batches.teacher_logits import (
    SampleMark,
    TeacherLogits,
    TeacherMark,
    differences,
    read_logits,
    require,
    write_logits,
)
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import vectors_in_crop
from neuropbr_core.recipe.sections import Data
from neuropbr_core.samples import CameraRecord, Sample

SIZE = 16
TEACHER = TeacherMark("a" * 64, "b" * 64)
CAMERA = CameraRecord(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 1.0))


def frame(seed: int, size: int = SIZE) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(spec.logit_channels, size, size)).astype(np.float16) for name, spec in MAPS.items()}


def sample(index: int, condition: str = "clean") -> Sample[str]:
    name = f"{condition}/sample_{index:04d}"
    return Sample(name, condition, "wood", (f"{name}/0", f"{name}/1"), {each: f"{name}/{each}" for each in MAPS})


def mark(index: int, **changes: Any) -> SampleMark:
    found = SampleMark.of(sample(index), [f"{index}a", f"{index}b"], [CAMERA, CAMERA])
    return SampleMark(**{**{name: getattr(found, name) for name in found.__struct_fields__}, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards of two samples each; sample `i` has the logits `frame(i)`."""
    for start in (0, 2):
        write_logits(tmp_path / "shards", TEACHER, SIZE, [(mark(i), frame(i)) for i in (start, start + 1)])
    return tmp_path / "shards"


def test_samples_are_found_by_id_in_any_order(folder: Path) -> None:
    shards = read_logits(folder)
    assert (shards.teacher, shards.size, set(shards.samples)) == (TEACHER, SIZE, {sample(i).id for i in range(4)})
    for index, name in itertools.product((3, 0, 2, 1), MAPS):
        expected = frame(index)[name]
        assert np.array_equal(shards.window(sample(index), name, 0, 0, SIZE), expected)
        assert np.array_equal(shards.window(sample(index), name, 3, 5, 8), expected[:, 5:13, 3:11])


def test_shards_travel_to_another_process(folder: Path) -> None:
    shards = read_logits(folder)
    shards.window(sample(0), "albedo", 0, 0, 2)
    copy = pickle.loads(pickle.dumps(shards))  # noqa: S301 - our own bytes
    assert np.array_equal(copy.window(sample(1), "normal", 1, 1, 4), frame(1)["normal"][:, 1:5, 1:5])


def test_a_window_reads_little_of_the_file(tmp_path: Path) -> None:
    """Resident memory grows by pages that the window touches, not by the shard of 29 MB."""
    big = 1024
    maps = {name: np.zeros((spec.logit_channels, big, big), np.float16) for name, spec in MAPS.items()}
    write_logits(tmp_path, TEACHER, big, [(mark(0), maps), (mark(1), maps)])
    shards = read_logits(tmp_path)
    before = resident()
    for _ in range(3):
        assert not shards.window(sample(1), "albedo", 64, 64, 64).any()
    assert resident() - before < 10_000_000


def resident() -> int:
    """Bytes of this process in memory, mapped files included."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")
    return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmRSS")).split()[1])


def test_a_sample_of_another_condition_is_not_taken_for_it(folder: Path) -> None:
    shards = read_logits(folder)
    for stranger in (sample(9), replace(sample(0), condition="dirty")):
        with pytest.raises(DataError, match=f"holds no prediction of {stranger.id}, {stranger.condition}"):
            shards.window(stranger, "albedo", 0, 0, 4)


def test_an_empty_folder_has_no_shards(tmp_path: Path) -> None:
    shards = read_logits(tmp_path / "nowhere")
    assert (shards.teacher, shards.samples) == (None, {})
    assert differences(shards, TEACHER, SIZE, [mark(0)]) == []
    with pytest.raises(DataError, match="clean/sample_0000: is missing\nremove the folder"):
        require(shards, TEACHER, SIZE, [mark(0)])


def test_shards_that_fit_are_accepted(folder: Path) -> None:
    shards = read_logits(folder)
    require(shards, TEACHER, SIZE, [mark(i) for i in range(4)])
    require(shards, TEACHER, SIZE, [mark(0, views=("0a",), cameras=(CAMERA,)), mark(1, cameras=None)])


def test_everything_that_differs_is_told_at_once(folder: Path) -> None:
    moved = CameraRecord(CAMERA.homography, (0.0, 0.1, 1.0))
    now = [mark(0, views=("0a", "new")), mark(1, cameras=(CAMERA, moved)), mark(2, source="dirty"), mark(7)]
    with pytest.raises(DataError) as caught:
        require(read_logits(folder), TeacherMark("c" * 64, TEACHER.model), 32, now)
    assert str(caught.value).replace(f"{folder}: ", "").splitlines() == [
        "made by another teacher: weights aaaaaaaaaaaa there, cccccccccccc wanted",
        "maps of 16 px there, 32 px wanted",
        "clean/sample_0000: view 1 changed since it was predicted",
        "clean/sample_0001: its cameras changed since it was predicted",
        "clean/sample_0002: source clean there, dirty wanted",
        "clean/sample_0007: is missing",
        "remove the folder to have it made again, or name another in teacher.shards",
    ]


def test_damaged_shards_and_strangers_are_refused_by_name(folder: Path) -> None:
    first = next(iter(sorted(folder.glob("*.safetensors"))))
    whole = first.read_bytes()
    for spoiled in (whole[:-10], whole[:5], b""):
        first.write_bytes(spoiled)
        with pytest.raises(DataError, match=f"{first.name}: is no sound shard .* --resume"):
            read_logits(folder)
    first.write_bytes(whole)
    write_logits(folder, TEACHER, 32, [(mark(5), frame(5, 32))])
    with pytest.raises(DataError, match=r"shards of several kinds .16 px by aaaaaaaaaaaa, 32 px by aaaaaaaaaaaa."):
        read_logits(folder)


def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="the shard cannot be written"):
        write_logits(tmp_path / "file", TEACHER, SIZE, [(mark(0), frame(0))])


def test_others_may_read_a_shard_as_they_may_any_new_file(folder: Path) -> None:
    ordinary = folder / "ordinary"
    ordinary.touch()
    assert {path.stat().st_mode for path in folder.iterdir()} == {ordinary.stat().st_mode}


class Grey:
    """Images of one grey."""

    instant = True

    def view(self, key: object) -> Any:
        return np.full((3, SIZE, SIZE), 128, np.uint8)

    def map(self, name: str, key: object) -> Any:
        return np.full((MAPS[name].channels, 2 * SIZE, 2 * SIZE), 128, np.uint8)


@pytest.fixture
def taught(tmp_path: Path) -> MaterialDataset:
    """Two samples at 16 px in and 32 px out, with crops and turns, and a teacher's logits."""
    write_logits(tmp_path / "s", TEACHER, 2 * SIZE, [(mark(i), frame(i, 2 * SIZE)) for i in (0, 1)])
    data = Data(views=2, image_size=SIZE, output_size=2 * SIZE, crop_size=8, repeats=12, augment=True)
    dataset = MaterialDataset([sample(1), sample(0)], data, Grey(), train=True, seed=3)
    return dataset.with_teacher(read_logits(tmp_path / "s"))


def placements(dataset: MaterialDataset) -> Iterator[tuple[int, Placement]]:
    for number in range(len(dataset)):
        placement = dataset.placement(Visit(0, number))
        yield number, Placement(*(2 * value for value in placement[:3]), *placement[3:])


def test_crops_and_turns_of_logits_are_those_of_the_maps(taught: MaterialDataset) -> None:
    """In 24 visits: sigmoid maps are indexed like a stored map, slopes turn as the frame's matrix turns vectors."""
    seen = set()
    for number, placement in placements(taught):
        item = taught[number]
        index = 1 - number % 2
        whole = frame(index, 2 * SIZE)
        assert item.teacher_logits is not None
        for name in ("albedo", "roughness", "metallic"):
            expected = place_map(whole[name], MAPS[name], placement)  # indexing only: dtype does not matter
            assert np.array_equal(item.teacher_logits[name].numpy(), expected)
        x, y, side = placement[:3]
        window = torch.from_numpy(whole["normal"][:, y : y + side, x : x + side].astype(np.float32))
        turned = torch.from_numpy(place_map(window.numpy(), MAPS["albedo"], placement._replace(x=0, y=0)))  # type: ignore[arg-type]
        vectors = torch.cat((turned, torch.ones_like(turned[:1])))[None, None]
        matrix = torch.from_numpy(crop_matrix(placement, 2 * SIZE))[None]
        expected_slopes = vectors_in_crop(vectors, matrix)[0, 0, :2]
        torch.testing.assert_close(item.teacher_logits["normal"].float(), expected_slopes)
        seen.add((placement.turns, placement.mirror))
    assert len(seen) == 8


def test_batches_carry_what_items_do(taught: MaterialDataset) -> None:
    loader = train_loader(taught, 5, seed=0, epoch=1, num_workers=2)
    for batch, visits in zip(loader, loader.batches, strict=True):
        alone = collate([taught[visit] for visit in visits])
        assert batch.teacher_logits is not None
        assert alone.teacher_logits is not None
        for name, logits in alone.teacher_logits.items():
            assert torch.equal(batch.teacher_logits[name], logits)
        assert batch.to("cpu").teacher_logits is not None


def test_a_prepared_batch_has_the_teachers_prediction(taught: MaterialDataset) -> None:
    batch = collate([taught[0], taught[1]])
    prepared = prepare(batch, taught.data, "cpu")
    assert prepared.teacher is not None
    assert batch.teacher_logits is not None
    for name, spec in MAPS.items():
        assert prepared.teacher.logits[name].dtype == torch.float32
        assert prepared.teacher.maps[name].shape == (2, spec.channels, 16, 16)
        torch.testing.assert_close(prepared.teacher.logits[name], batch.teacher_logits[name].float())
    torch.testing.assert_close(prepared.teacher.maps["roughness"], batch.teacher_logits["roughness"].float().sigmoid())
    assert prepared.teacher.features == {}


def test_without_a_teacher_there_is_none(taught: MaterialDataset) -> None:
    assert taught.whole().teacher is None
    batch = collate([taught.whole()[0]])
    assert batch.teacher_logits is None
    assert prepare(batch, taught.data, "cpu").teacher is None


def test_a_missing_sample_is_an_error_of_the_visit(taught: MaterialDataset) -> None:
    assert isinstance(taught.teacher, TeacherLogits)
    taught.samples[0] = sample(5)
    with pytest.raises(DataError, match="holds no prediction of clean/sample_0005"):
        taught[0]
