"""Which materials are held back, and how often the others are trained on."""

import json
from functools import partial

import numpy as np
import pytest

from neuropbr_core.data.images import write_map, write_png
from neuropbr_core.data.splits import RUN, follow_split, keep_split, oversample, split_materials, unmatched
from neuropbr_core.datasets.layout.source import LayoutSource
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data
from neuropbr_core.samples import Sample

NAMES = [f"material_{index}" for index in range(400)]


def test_sides_are_disjoint_and_complete():
    split = split_materials(NAMES * 2, val_ratio=0.1, seed=1)
    assert not set(split.train) & set(split.val)
    assert sorted(split.train + split.val) == sorted(NAMES)
    assert len(split.val) == 40
    assert split.notes == ()


@pytest.mark.parametrize("count", [2, 3, 7, 30, 100, 399])
@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.8])
def test_the_nearest_number_is_held_back(count, ratio):
    split = split_materials(NAMES[:count], val_ratio=ratio, seed=5)
    assert abs(len(split.val) - ratio * count) <= 0.5 or len(split.val) in (1, count - 1)
    assert 1 <= len(split.val) < count


def test_additions_move_few():
    before = split_materials(NAMES[:200], val_ratio=0.2, seed=3)
    after = split_materials(NAMES[:210], val_ratio=0.2, seed=3)
    assert len(before.val), len(after.val) == (40, 42)
    moved = set(before.val) ^ (set(after.val) - set(NAMES[200:210]))
    assert len(moved) <= 8  # each of ten additions shifts the border by one place at most, and two places are new


def test_an_addition_moves_one_material_at_most():
    for count in range(20, 120):
        before = split_materials(NAMES[:count], val_ratio=0.2, seed=3)
        after = split_materials(NAMES[: count + 1], val_ratio=0.2, seed=3)
        assert len(set(before.val) ^ (set(after.val) - {NAMES[count]})) <= 1


def test_a_large_group_does_not_overshoot():
    groups = {"oak": NAMES[:30]}
    for seed in range(20):
        split = split_materials(NAMES[:60], val_ratio=0.1, seed=seed, groups=groups)
        first_is_the_group = set(groups["oak"]) <= set(split.val)
        assert len(split.val) == (30 if first_is_the_group else 6)


def test_order_does_not_matter_but_seed_does():
    split = split_materials(NAMES, val_ratio=0.2, seed=3)
    assert split_materials(reversed(NAMES), val_ratio=0.2, seed=3) == split
    assert split_materials(NAMES, val_ratio=0.2, seed=4).val != split.val


def test_neither_side_is_empty():
    assert len(split_materials(["a", "b", "c"], val_ratio=1e-6, seed=0).val) == 1
    assert len(split_materials(["a", "b", "c"], val_ratio=1 - 1e-9, seed=0).train) == 1


def test_ratio_zero_and_a_single_material_hold_back_nothing():
    assert split_materials(NAMES, val_ratio=0, seed=0).val == ()
    single = split_materials(["a"], val_ratio=0.99, seed=0)
    assert (single.train, single.val) == (("a",), ())
    assert single.notes == ("no validation: there is only one material, or one group of look-alikes",)


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


GROUPS = {"oak": [f"material_{index}" for index in range(6)], "tiles": ["material_10", "material_11"]}


def side(split, name):
    return "val" if name in split.val else "train"


@pytest.mark.parametrize("seed", range(30))
def test_a_group_is_on_one_side(seed):
    split = split_materials(NAMES[:40], val_ratio=0.5, seed=seed, groups=GROUPS)
    for members in GROUPS.values():
        assert len({side(split, name) for name in members}) == 1
    assert split.groups == {group: tuple(sorted(members)) for group, members in GROUPS.items()}
    assert sorted(split.train + split.val) == sorted(NAMES[:40])


def test_groups_fall_on_either_side_by_their_name_alone():
    sides = {
        side(split_materials(NAMES[:40], val_ratio=0.5, seed=seed, groups=GROUPS), "material_0") for seed in range(9)
    }
    assert sides == {"train", "val"}
    grown = {"oak": [*GROUPS["oak"], "material_300"], "tiles": GROUPS["tiles"]}
    for seed in range(9):
        before = split_materials(NAMES, val_ratio=0.3, seed=seed, groups=GROUPS)
        after = split_materials(NAMES, val_ratio=0.3, seed=seed, groups=grown)
        assert len(set(before.val) ^ set(after.val)) <= 2  # the new member, and one at the border


def test_a_group_may_be_named_like_a_material():
    split = split_materials(NAMES, val_ratio=0.3, seed=0, groups={"material_7": ["material_1", "material_2"]})
    assert sorted(split.train + split.val) == sorted(NAMES)


def test_absent_members_leave_a_note():
    split = split_materials(["oak_1", "oak_2", "brick"], val_ratio=0.5, seed=0, groups={"oak": ["oak_1", "oak2"]})
    assert split.groups == {"oak": ("oak_1",)}
    assert split.notes[0] == "data.groups.oak: 'oak2' is no material of this dataset. Did you mean 'oak_2'?"


def test_a_single_group_holds_back_nothing():
    split = split_materials(["a", "b"], val_ratio=0.5, seed=0, groups={"all": ["a", "b"]})
    assert (split.train, split.val) == (("a", "b"), ())
    assert split.notes == ("no validation: there is only one material, or one group of look-alikes",)


def test_a_material_of_two_groups_is_refused():
    with pytest.raises(DataError, match=r"data\.groups: 'a' is in 'x' and in 'y'; name it in one group"):
        split_materials(["a", "b"], val_ratio=0.5, seed=0, groups={"x": ["a"], "y": ["a", "b"]})


def test_an_explicit_list_must_not_part_a_group():
    with pytest.raises(DataError, match=r"holds back part of data\.groups\.oak; add 'b', or take the group apart"):
        split_materials(["a", "b", "c"], val_ratio=0.5, seed=0, val_materials=["a"], groups={"oak": ["a", "b"]})
    split = split_materials(["a", "b", "c"], val_ratio=0, seed=0, val_materials=["a", "b"], groups={"oak": ["a", "b"]})
    assert split.val == ("a", "b")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Twelve materials, two samples of each; every third sample is dirty too, and every fifth dirty alone."""
    root = tmp_path_factory.mktemp("dataset")
    names = {f"sample_{index:04d}": f"material_{index % 12}" for index in range(24)}
    for index, name in enumerate(names):
        clean, dirty = index % 5 != 0, index % 3 == 0 or index % 5 == 0
        for source in ["clean"] * clean + ["dirty"] * dirty:
            write_png(root / "input" / source / name / "0.png", np.zeros((4, 4, 3), np.uint8))
    for material in set(names.values()):
        for spec in MAPS.values():
            write_map(root / "output" / material, spec, np.full((spec.channels, 4, 4), 128, np.uint8))
    (root / "input/render_metadata.json").write_text(json.dumps(names))
    return root


@pytest.mark.parametrize("seed", range(5))
def test_no_material_nor_group_is_on_both_sides_in_any_curriculum(dataset, seed):
    groups = {"oak": ("material_0", "material_1", "material_2"), "tiles": ("material_7", "material_8")}
    sides = {}
    for curriculum in ("clean", "mixed", "dirty"):
        source = LayoutSource(Data(root=str(dataset), views=1, render_curriculum=curriculum))
        materials = source.materials(source.samples())
        split = split_materials(materials, val_ratio=0.3, seed=seed, groups=groups)
        assert set(split.train) | set(split.val) == set(materials)
        assert not set(split.train) & set(split.val)
        for members in groups.values():
            assert len({side(split, name) for name in members if name in materials}) == 1
        sides[curriculum] = {name: side(split, name) for name in materials}
    for one in sides.values():  # and a curriculum later in training must not have seen what another holds back
        for other in sides.values():
            assert all(one[name] == other[name] for name in one.keys() & other.keys())


def follow(names, trained="ab", held="cd", **options):
    return follow_split(list(names), set(trained), set(held), **{"seed": 0, "val_ratio": 0.5, **options})


def test_a_students_split_is_its_teachers():
    split = follow("dacb" * 2)
    assert (split.train, split.val, split.val_ratio, split.notes) == (("a", "b"), ("c", "d"), None, ())
    assert follow("abcd", val_materials=("d", "c")) == split


def test_materials_that_the_teacher_has_not_seen_are_trained_on_and_said():
    split = follow("abcx")
    assert (split.train, split.val) == (("a", "b", "x"), ("c",))
    assert split.notes == ("trained on although they are new to the teacher: 'x'",)
    assert follow("abx").notes[0] == (
        "no validation: the teacher trained on these materials and held none of them back"
    )


def test_look_alikes_of_what_the_teacher_held_back_are_held_back_too():
    """`x` is new and grouped with `c`, which was held back; `y` is new and grouped with `a`, which was trained on."""
    groups = {"oak": ("c", "x"), "brick": ("a", "y")}
    split = follow("abcdxy", groups=groups)
    assert (split.train, split.val) == (("a", "b", "y"), ("c", "d", "x"))
    assert split.groups == groups
    assert split.notes == ("trained on although they are new to the teacher: 'y'",)
    assert follow("abcdxy", groups=groups, val_materials=("c", "d", "x")) == split
    with pytest.raises(DataError, match="it trains on 'x', grouped with what was held back from the teacher"):
        follow("abcdxy", groups=groups, val_materials=("c", "d"))


def test_a_group_that_the_teachers_split_takes_apart_is_said():
    split = follow("abcdx", groups={"oak": ("a", "c", "x"), "tiles": ("d",)})
    assert (split.train, split.val, split.groups) == (("a", "b"), ("c", "d", "x"), {"tiles": ("d",)})
    assert split.notes == ("data.groups.oak: the teacher trained on some of it and held some back",)


def test_a_teacher_that_has_seen_none_of_them_splits_nothing():
    assert follow("vwxyz") == split_materials("vwxyz", val_ratio=0.5, seed=0)
    assert follow("vw", val_materials=("w",)).val == ("w",)


def test_procedural_materials_that_all_datasets_share_do_not_make_a_dataset_the_teachers():
    names = ["v", "w", "x", "proc_bricks_0"]
    split = follow_split(names, ["a", "proc_bricks_0"], [], seed=0, val_ratio=0.5)
    assert split == split_materials(names, val_ratio=0.5, seed=0)
    assert split.val


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            "ac",
            "it holds back 'a', which the teacher trained on; it trains on 'd', which was held back from the teacher",
        ),
        ("c", "it trains on 'd', which was held back from the teacher"),
        ("cdx", "it holds back 'x', which was not held back from the teacher"),
    ],
)
def test_a_split_that_contradicts_the_teachers_is_refused(wanted, message):
    with pytest.raises(DataError) as caught:
        follow("abcdx", val_materials=tuple(wanted))
    assert str(caught.value).startswith(f"data.val_materials contradicts the teacher's split: {message}. Leave val_")


def kept(names, held="cd", trained="ab", **options):
    """The split of a run that was trained on `trained`, and goes on with these options."""
    options = {"val_ratio": 0.5, "seed": 0, **options}
    drawn = partial(split_materials, **options)
    recorded = partial(follow_split, trained=set(trained), held_back=set(held), guide=RUN, **options)
    return keep_split(names, drawn, recorded, set(held))


def test_a_run_that_goes_on_keeps_its_split_and_says_so():
    drawn = split_materials("abcd", val_ratio=0.5, seed=0)
    assert kept("abcd", held=drawn.val, trained=drawn.train) == drawn
    for options in ({"seed": 1}, {"seed": 2}, {"val_ratio": 0.25}, {"val_ratio": 0.0}, {"val_materials": ()}):
        split = kept("abcd", **options)
        assert (split.train, split.val) == (("a", "b"), ("c", "d"))
        if set(split_materials("abcd", **{"val_ratio": 0.5, "seed": 0, **options}).val) != {"c", "d"}:
            assert split.notes[0].startswith("stays as it was when the run stopped")
    # Where nothing was held back, nothing can be held back any more.
    assert kept("abcd", held="", trained="abcd").notes[1:] == (
        "no validation: the run trained on these materials and held none of them back",
    )


def test_materials_that_are_new_to_a_run_that_goes_on_are_trained_on():
    split = kept("abcdvwxyz", val_ratio=0.9)
    assert split.val == ("c", "d")
    assert split.notes[1] == "trained on although they are new to the run: 'v', 'w', 'x', 'y', 'z'"
    # Where all are new, there is nothing to keep.
    assert kept("vwxyz") == split_materials("vwxyz", val_ratio=0.5, seed=0)


def test_a_list_that_contradicts_the_split_of_the_run_is_refused():
    assert kept("abcd", val_materials=("c", "d")).notes == ()
    with pytest.raises(DataError) as caught:
        kept("abcd", val_materials=("a", "c"))
    assert str(caught.value) == (
        "data.val_materials contradicts the run's split: it holds back 'a', which the run trained on; it trains on "
        "'d', which was held back from the run. Leave val_materials out to have the run's split, or use --run-name "
        "for a new run"
    )


def test_an_unknown_material_of_a_students_split_is_refused():
    with pytest.raises(DataError, match=r"data\.val_materials: 'q' is no material of this dataset"):
        follow("abcd", val_materials=("c", "q"))


def sample(index: int, material: str) -> Sample[str]:
    return Sample(id=f"s{index}", condition="clean", material=material, views=("0",), maps={})


SAMPLES = [sample(0, "brick"), sample(1, "proc_metal_0"), sample(2, "proc_sand_0")]


@pytest.mark.parametrize(
    ("factors", "ids"),
    [
        ({}, ["s0", "s1", "s2"]),
        ({"proc_*": 2}, ["s0", "s1", "s2", "s1", "s2"]),
        ({"proc_*": 0}, ["s0"]),
        ({"proc_*": 0, "*metal*": 2}, ["s0", "s1", "s1"]),
        ({"*metal*": 2, "proc_*": 0}, ["s0"]),
        ({"*": 3, "proc_*": 1}, ["s0", "s1", "s2", "s0", "s0"]),
    ],
)
def test_the_last_pattern_that_fits_counts(factors: dict[str, int], ids: list[str]) -> None:
    assert [each.id for each in oversample(SAMPLES, factors)] == ids


def test_leaving_out_everything_is_refused() -> None:
    with pytest.raises(DataError, match="oversample: leaves out every training material; give one a factor"):
        oversample(SAMPLES, {"*": 0})


def test_no_samples_stay_none() -> None:
    assert oversample([], {"*": 2}) == []


def test_patterns_that_fit_nothing_are_told() -> None:
    assert list(unmatched(["brick", "proc_sand_0"], {"proc_*": 2, "brik": 3, "Brick": 1})) == ["brik", "Brick"]
