"""Samples of some materials more often than others."""

import pytest

from neuropbr_core.data.oversampling import oversample, unmatched
from neuropbr_core.errors import DataError
from neuropbr_core.samples import Sample


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
