"""The record of a batch: everything that it does works on every field, so that a new one needs no code here."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from neuropbr_core.data.batches.batch import Batch, Item, VisitRecord, collate

VIEWS = 3


def full_batch(size: int = 2) -> Batch:
    """A batch with every field, each visit and view with values of its own."""
    steps = torch.arange(size * VIEWS).view(size, VIEWS)
    return Batch(
        ids=[f"clean/sample_{index:04d}" for index in range(size)],
        materials=[f"m{index}" for index in range(size)],
        views=steps.byte().view(size, VIEWS, 1, 1, 1).expand(-1, -1, 3, 4, 4).contiguous(),
        targets={"roughness": torch.arange(size).byte().view(size, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()},
        crop_to_texture=torch.rand(size, 3, 3),
        homographies=torch.rand(size, VIEWS, 3, 3),
        positions=torch.rand(size, VIEWS, 3),
        gains=torch.rand(size, VIEWS, 3),
        overview_pixels=steps.byte().view(size, VIEWS, 1, 1, 1).expand(-1, -1, 4, 2, 2).contiguous(),
        teacher_logits={"roughness": torch.rand(size, 1, 8, 8).half()},
        visible_pixels=steps.byte().view(size, VIEWS, 1, 1, 1).expand(-1, -1, 1, 4, 4).contiguous(),
    )


def tensors(record: VisitRecord) -> dict[str, Tensor]:
    """Every tensor of a record, by field and name."""
    found = {}
    for each in fields(record):
        value = getattr(record, each.name)
        for name, tensor in (value if isinstance(value, dict) else {"": value}).items():
            if isinstance(tensor, Tensor):
                found[f"{each.name} {name}"] = tensor
    return found


def test_this_test_knows_every_field() -> None:
    assert all(getattr(full_batch(), each.name) is not None for each in fields(Batch))


def test_an_item_shares_the_memory_of_its_batch_and_stacks_to_it() -> None:
    batch = full_batch()
    items = [batch[0], batch[1]]
    assert [(item.id, item.material) for item in items] == [("clean/sample_0000", "m0"), ("clean/sample_0001", "m1")]
    again = collate(items)
    assert (again.ids, again.materials) == (batch.ids, batch.materials)
    for name, tensor in tensors(batch).items():
        torch.testing.assert_close(tensors(again)[name], tensor, rtol=0, atol=0)
    items[1].views.fill_(77)
    assert (batch.views[1] == 77).all()


def test_a_device_gets_every_tensor() -> None:
    moved = full_batch().to("meta")
    assert {tensor.device.type for tensor in tensors(moved).values()} == {"meta"}
    assert tensors(moved).keys() == tensors(full_batch()).keys()


@pytest.mark.parametrize("chosen", [(0,), (0, 2), (2, 1)])
def test_views_are_chosen_in_every_field_that_has_them(chosen: tuple[int, ...]) -> None:
    batch = full_batch()
    fewer = tensors(batch.with_views(chosen))
    for name, tensor in tensors(batch).items():
        per_view = name.split()[0] in (
            "views",
            "homographies",
            "positions",
            "gains",
            "overview_pixels",
            "visible_pixels",
        )
        assert torch.equal(fewer[name], tensor[:, list(chosen)] if per_view else tensor), name


def test_what_is_missing_stays_missing() -> None:
    item = Item(
        ids=["a"], materials=["b"], views=torch.zeros(1, 3, 2, 2).byte(), targets={}, crop_to_texture=torch.eye(3)
    )
    batch = collate([item, item])
    assert batch.homographies is None
    assert batch.with_views([0]).gains is None
    assert batch[1].teacher_logits is None
