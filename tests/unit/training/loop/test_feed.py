"""What each step is fed: groups of batches with their shares, the same views in a step, and the same after a resume."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import small_run
import torch
from torch import Tensor

from neuropbr_core.data.batches.batch import Batch
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.training.loop import feed as feed_module
from neuropbr_core.training.loop.feed import Feed, draw_views

SAMPLES = 10


@dataclass(frozen=True)
class FakeBatch:
    """Samples by number, and the views that are left of them."""

    samples: tuple[int, ...]
    chosen: tuple[int, ...] = (0, 1, 2)

    @property
    def ids(self) -> list[str]:
        return [f"sample_{number}" for number in self.samples]

    @property
    def views(self) -> Tensor:
        return torch.zeros(len(self.samples), len(self.chosen), 3, 2, 2)

    def with_views(self, chosen: Sequence[int]) -> "FakeBatch":
        return replace(self, chosen=tuple(chosen))


@dataclass(frozen=True)
class FakePrepared:
    batch: FakeBatch
    views: Tensor
    teacher: Any = None


class FakeLoader:
    """Batches of consecutive samples, from a step on."""

    def __init__(self, batch_size: int, skip_steps: int) -> None:
        visits = list(range(SAMPLES))
        batches = [tuple(visits[start : start + batch_size]) for start in range(0, SAMPLES, batch_size)]
        self.batches = batches[skip_steps:]
        self.read = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[FakeBatch]:
        for samples in self.batches:
            self.read += 1
            yield FakeBatch(samples)


@pytest.fixture
def loaders(monkeypatch: pytest.MonkeyPatch) -> list[FakeLoader]:
    """The loaders that a feed opened."""
    opened: list[FakeLoader] = []

    def train_loader(dataset: object, batch_size: int, *, skip_steps: int, **_: object) -> FakeLoader:
        opened.append(FakeLoader(batch_size, skip_steps))
        return opened[-1]

    monkeypatch.setattr(feed_module, "train_loader", train_loader)
    monkeypatch.setattr(feed_module, "prepare", lambda batch, data, device: FakePrepared(batch, batch.views))
    return opened


def make_feed(*overrides: str, teacher: Any = None, **changes: Any) -> Feed:
    recipe: Recipe = small_run.small_recipe("training.batch_size=2", *overrides)
    fabric: Any = SimpleNamespace(world_size=1, global_rank=0, device=torch.device("cpu"), **changes)
    dataset: Any = range(SAMPLES)
    return Feed(recipe, dataset, fabric, teacher)


def taken(feed: Feed, epoch: int = 0, start: int = 0) -> list[tuple[list[str], list[float], list[tuple[int, ...]]]]:
    """Ids, shares and views of each step."""
    steps = []
    for group in feed.groups(epoch, start):
        views = [prepared.batch.chosen for prepared in group.batches]  # type: ignore[attr-defined]
        steps.append((group.ids, group.weights, views))
    return steps


def test_a_group_has_its_batches_and_their_shares_of_its_samples(loaders: list[FakeLoader]) -> None:
    feed = make_feed("training.accumulate=3")
    assert feed.steps == 2
    first, last = taken(feed)
    assert first[0] == [f"sample_{number}" for number in range(6)]
    assert first[1] == [1 / 3, 1 / 3, 1 / 3]
    assert last[0] == [f"sample_{number}" for number in range(6, 10)]
    assert last[1] == [1 / 2, 1 / 2], "the last group of an epoch is smaller"
    unequal = make_feed("training.batch_size=4", "training.accumulate=2")
    assert taken(unequal)[1][1] == [1.0]
    assert taken(make_feed("training.batch_size=4", "training.accumulate=3"))[0][1] == [0.4, 0.4, 0.2]


def test_a_resumed_epoch_goes_on_with_the_steps_that_are_left(loaders: list[FakeLoader]) -> None:
    feed = make_feed("data.random_views=true", "training.accumulate=2")
    for start in range(feed.steps):
        assert taken(feed, epoch=3, start=start) == taken(feed, epoch=3)[start:]


def test_all_batches_of_a_step_have_the_same_views(loaders: list[FakeLoader]) -> None:
    feed = make_feed("data.random_views=true", "training.accumulate=2")
    counts = set()
    for epoch in range(20):
        for _, _, views in taken(feed, epoch):
            assert len(set(views)) == 1
            counts.add(len(views[0]))
    assert counts == {1, 2, 3}
    assert {views[0] for _, _, views in taken(make_feed())} == {(0, 1, 2)}


def test_batches_are_read_when_they_are_asked_for(loaders: list[FakeLoader]) -> None:
    groups = make_feed("training.accumulate=2").groups(0, 0)
    group = next(groups)
    assert loaders[-1].read == 0
    assert group.ids == []
    next(group.batches)
    assert loaders[-1].read == 1
    assert group.ids == ["sample_0", "sample_1"]


def test_a_teacher_sees_all_views_whatever_the_step_has(loaders: list[FakeLoader]) -> None:
    shown: list[int] = []

    def teacher(prepared: FakePrepared) -> FakePrepared:
        shown.append(prepared.views.shape[1])
        return replace(prepared, teacher="prediction")

    feed = make_feed("data.random_views=true", teacher=teacher)
    prepared = [each for group in feed.groups(0, 0) for each in group.batches]
    assert {each.views.shape[1] for each in prepared} != {3}
    assert shown == [3] * len(prepared)
    assert {str(each.teacher) for each in prepared} == {"prediction"}


def test_the_order_of_samples_depends_on_what_a_checkpoint_records(loaders: list[FakeLoader]) -> None:
    counts = make_feed("training.accumulate=2", "training.seed=7").resume_counts
    assert counts == {"visits": 10, "batch_size": 2, "accumulate": 2, "processes": 1, "seed": 7}


def test_the_first_view_is_always_there_and_half_of_the_steps_see_all() -> None:
    drawn = [draw_views(7, 0, step, 4) for step in range(4000)]
    assert all(views[0] == 0 and list(views) == sorted(set(views)) and views[-1] < 4 for views in drawn)
    counts = Counter(map(len, drawn))
    assert set(counts) == {1, 2, 3, 4}
    assert all(abs(counts[number] - 500) < 90 for number in (1, 2, 3))
    assert abs(counts[4] - 2500) < 130
    others = Counter(view for views in drawn if len(views) == 2 for view in views[1:])
    assert set(others) == {1, 2, 3}


def test_it_depends_on_seed_epoch_and_step_alone() -> None:
    one = [draw_views(1, 0, step, 3) for step in range(20)]
    assert [draw_views(1, 0, step, 3) for step in reversed(range(20))] == one[::-1]
    assert [draw_views(2, 0, step, 3) for step in range(20)] != one
    assert [draw_views(1, 1, step, 3) for step in range(20)] != one
    assert {draw_views(1, 0, step, 1) for step in range(20)} == {(0,)}


def test_a_batch_with_fewer_views_keeps_what_belongs_to_them() -> None:
    batch = Batch(
        ids=["a", "b"],
        materials=["m", "m"],
        views=torch.arange(2 * 3 * 3 * 2 * 2, dtype=torch.uint8).view(2, 3, 3, 2, 2),
        targets={"albedo": torch.zeros(2, 3, 2, 2, dtype=torch.uint8)},
        crop_to_texture=torch.rand(2, 3, 3),
        homographies=torch.rand(2, 3, 3, 3),
        positions=torch.rand(2, 3, 3),
        gains=torch.rand(2, 3, 3),
    )
    fewer = batch.with_views([0, 2])
    assert torch.equal(fewer.views, batch.views[:, [0, 2]])
    for name in ("homographies", "positions", "gains"):
        assert torch.equal(getattr(fewer, name), getattr(batch, name)[:, [0, 2]])
    assert fewer.ids == batch.ids
    assert torch.equal(fewer.crop_to_texture, batch.crop_to_texture)
    assert batch.with_views([0, 1, 2]) is batch
