"""Repeats the samples of some materials, and leaves out those of others."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from neuropbr_core.errors import DataError
from neuropbr_core.samples import Sample


def oversample(samples: Sequence[Sample[Any]], factors: Mapping[str, int]) -> list[Sample[Any]]:
    """Repeat samples by their material.

    Args:
        samples: The training samples.
        factors: Number of repetitions by pattern (`fnmatch`) of material names. The last pattern that fits a material
            counts; the factor is 1 when none fits.

    Returns:
        Every sample as often as its material's factor, the first occurrence of each before the second of any.

    Raises:
        DataError: No sample is left.
    """
    repetitions = {}
    for sample in samples:
        repetitions[sample.material] = 1
        # The last fitting pattern wins, so that a recipe can name a rule first and its exceptions behind it.
        for pattern, factor in factors.items():
            if fnmatchcase(sample.material, pattern):
                repetitions[sample.material] = factor
    # In rounds: samples of the first round keep their places when a factor grows.
    repeated = []
    for turn in range(max(repetitions.values(), default=0)):
        for sample in samples:
            if turn < repetitions[sample.material]:
                repeated.append(sample)
    if samples and not repeated:
        raise DataError("data.oversample: leaves out every training material; give one a factor above 0")
    return repeated


def unmatched(materials: Collection[str], factors: Mapping[str, int]) -> Iterator[str]:
    """Yield the patterns that fit no material, which may be misspelt."""
    for pattern in factors:
        if not any(fnmatchcase(material, pattern) for material in materials):
            yield pattern
