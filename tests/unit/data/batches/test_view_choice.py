"""Which views a step sees."""

from collections import Counter

import torch

from neuropbr_core.data.batches.batch import Batch
from neuropbr_core.data.batches.view_choice import draw_views


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
