import pytest

from neuropbr_core.data.splits import split_materials
from neuropbr_core.errors import DataError

NAMES = [f"material_{index}" for index in range(400)]


def test_sides_are_disjoint_and_complete():
    split = split_materials(NAMES * 2, val_ratio=0.1, seed=1)
    assert not set(split.train) & set(split.val)
    assert sorted(split.train + split.val) == sorted(NAMES)
    assert 20 <= len(split.val) <= 60
    assert split.notes == ()


def test_additions_move_nobody():
    small = split_materials(NAMES[:200], val_ratio=0.2, seed=3)
    large = split_materials(NAMES, val_ratio=0.2, seed=3)
    assert set(small.val) <= set(large.val)
    assert set(small.train) <= set(large.train)


def test_order_does_not_matter_but_seed_does():
    split = split_materials(NAMES, val_ratio=0.2, seed=3)
    assert split_materials(reversed(NAMES), val_ratio=0.2, seed=3) == split
    assert split_materials(NAMES, val_ratio=0.2, seed=4).val != split.val


def test_never_empty_and_says_so():
    split = split_materials(["a", "b", "c"], val_ratio=1e-6, seed=0)
    assert len(split.val) == 1
    assert split.notes == (f"no material fell under data.val_ratio 1e-06; the nearest, {split.val[0]!r}, is held back",)
    split = split_materials(["a", "b", "c"], val_ratio=1 - 1e-9, seed=0)
    assert len(split.train) == 1
    assert "all materials fell under" in split.notes[0]
    assert repr(split.train[0]) in split.notes[0]


def test_ratio_zero_and_a_single_material_hold_back_nothing():
    assert split_materials(NAMES, val_ratio=0, seed=0).val == ()
    single = split_materials(["a"], val_ratio=0.99, seed=0)
    assert (single.train, single.val) == (("a",), ())
    assert single.notes == ("no validation: there is only one material",)


def test_explicit_list():
    split = split_materials(["a", "b", "c"], val_ratio=0.1, seed=0, val_materials=["c", "a"])
    assert (split.train, split.val, split.val_ratio) == (("b",), ("a", "c"), None)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(DataError) as caught:
        split_materials(["bricks", "oak"], val_ratio=0, seed=0, val_materials=["brick", "zzz"])
    assert str(caught.value).splitlines() == [
        "data.val_materials: 'brick' is no material of this dataset. Did you mean 'bricks'?",
        "data.val_materials: 'zzz' is no material of this dataset.",
        "Materials: bricks, oak",
    ]


def test_nothing_left_to_train_on():
    with pytest.raises(DataError, match="leave at least one to train on"):
        split_materials(["a", "b"], val_ratio=0, seed=0, val_materials=["a", "b"])
