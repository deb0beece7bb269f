"""The layout passes the suite for datasets, and the suite finds the faults that it is there for."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuropbr_core.data.pack.choose import list_images
from neuropbr_core.datasets.layout import Options
from neuropbr_core.datasets.layout.source import LayoutSource
from neuropbr_core.datasets.layout.suite import SIZE, write_layout
from neuropbr_core.errors import DataError
from neuropbr_core.recipe.sections import Data
from neuropbr_core.registry import default_registry
from neuropbr_core.testing.dataset import DatasetSuite, Opened


class TestLayout(DatasetSuite):
    use = "layout"

    def write_dataset(self, folder: Path) -> Mapping[str, Any]:
        return write_layout(folder)


class TestLayoutWithCameras(TestLayout):
    def write_dataset(self, folder: Path) -> Mapping[str, Any]:
        return {**write_layout(folder), "alignment": "recorded"}


class ListsInAnyOrder(LayoutSource):
    def samples(self) -> list[Any]:
        return sorted(super().samples(), key=lambda sample: sample.id, reverse=ListsInAnyOrder.calls.__next__() % 2)

    calls = itertools.count()


class ReusesItsArray(LayoutSource):
    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.arrays: dict[Any, Any] = {}

    def read_view(self, key: Any, size: int) -> Any:
        kept = self.arrays.setdefault(size, np.empty((3, size, size), np.uint8))
        kept[:] = super().read_view(key, size)
        return kept


class IgnoresTheSize(LayoutSource):
    def read_map(self, name: str, key: Any, size: int) -> Any:
        return super().read_map(name, key, SIZE)


class DigestsNames(LayoutSource):
    """Two files of one name share a digest."""

    def digests(self, keys: Any) -> list[str]:
        return [key.stem for key in keys]


class DigestsInAnyForm(LayoutSource):
    def digests(self, keys: Any) -> list[str]:
        return [str(key) for key in keys]


class SortsDigests(LayoutSource):
    def digests(self, keys: Any) -> list[str]:
        return sorted(super().digests(keys))


def suite_of(make: type[LayoutSource]) -> DatasetSuite:
    class Suite(DatasetSuite):
        @classmethod
        def create(cls, options: Any, **context: Any) -> LayoutSource:
            return make(context["data"])

    return Suite()


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(**write_layout(tmp_path / "dataset"), image_size=SIZE, output_size=SIZE, pack=str(tmp_path / "pack"))


def opened(make: type[LayoutSource], data: Data) -> Opened:
    source = make(data)
    component = default_registry().choose("dataset", "layout", Options(), name="source")
    return Opened(component, data, source, source.samples())


@pytest.mark.parametrize(
    ("make", "test", "message"),
    [
        (ListsInAnyOrder, "lists_the_same_again", "a second instance lists other samples"),
        (ReusesItsArray, "reads_the_same_again_also_from_several_threads", "changed after it was returned"),
        (DigestsNames, "digests_name_contents", "has the digest of an image with other pixels"),
        (DigestsInAnyForm, "digests_name_contents", "digests are letters, digits and `-`"),
        (SortsDigests, "digests_are_in_the_order_of_the_keys", "digests are in another order"),
    ],
)
def test_faults_are_found(data: Data, make: type[LayoutSource], test: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        getattr(suite_of(make), f"test_{test}")(opened(make, data))


def test_a_source_that_ignores_the_size_fails(data: Data) -> None:
    with pytest.raises(DataError, match=r"IgnoresTheSize returned uint8 \(3, 32, 32\) for albedo"):
        suite_of(IgnoresTheSize).test_reads_every_image_at_the_size_asked_for(opened(IgnoresTheSize, data))


def test_views_that_are_all_alike_fail(data: Data) -> None:
    class ReadsTheFirst(LayoutSource):
        def read_view(self, key: Any, size: int) -> Any:
            return super().read_view(list_images(self.samples())[0][1], size)

    with pytest.raises(AssertionError, match="all views have the same pixels"):
        suite_of(ReadsTheFirst).test_views_differ(opened(ReadsTheFirst, data))
