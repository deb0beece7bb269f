"""Some materials more often than others, and some not at all."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from neuropbr_core.errors import DataError
from neuropbr_core.samples import Sample


def oversample(samples: Sequence[Sample[Any]], factors: Mapping[str, int]) -> list[Sample[Any]]:
    """Repeat samples by their material.

    Args:
        samples: The training samples.
        factors: How many times, by pattern (`fnmatch`); the last one that fits a material counts, without any it is 1.

    Returns:
        Every sample as often as its material says, the first time of each before the second of any.

    Raises:
        DataError: None is left.
    """
    times = {sample.material: _factor(sample.material, factors) for sample in samples}
    repeated = [
        sample for turn in range(max(times.values(), default=0)) for sample in samples if turn < times[sample.material]
    ]
    if samples and not repeated:
        raise DataError("data.oversample: leaves out every training material; give one a factor above 0")
    return repeated


def unmatched(materials: Sequence[str], factors: Mapping[str, int]) -> Iterator[str]:
    """Patterns that fit no material: misspelt, perhaps."""
    return (pattern for pattern in factors if not any(fnmatchcase(material, pattern) for material in materials))


def _factor(material: str, factors: Mapping[str, int]) -> int:
    fitting = []
    for pattern, factor in factors.items():
        if fnmatchcase(material, pattern):
            fitting.append(factor)
    if fitting:
        return fitting[-1]
    return 1
