"""Conformance suite of datasets; an author says how to write a small one.

from neuropbr_core.testing.dataset import DatasetSuite

class TestTape(DatasetSuite):
    use = "tape"
    option_sets = ({"file": "captures.tape"},)            # only where options have no default

    def write_dataset(self, folder):
        write_tape(folder / "captures.tape", samples=3, views=2)
        return {"root": str(folder), "views": 2}          # keys of section `data`

    def dataset_options(self, folder):
        return {"file": str(folder / "captures.tape")}    # options of `data.source`; none unless overridden
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import pytest

from neuropbr_core.contracts import Sample, SampleSource
from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.loader import val_loader
from neuropbr_core.data.batches.prepare import prepare
from neuropbr_core.data.opening import open_source, pack_dataset
from neuropbr_core.data.pack.choose import asked_images, digest_images, open_images
from neuropbr_core.data.pack.format import VIEW
from neuropbr_core.data.pack.store import read_image
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data
from neuropbr_core.registry import Chosen, default_registry
from neuropbr_core.testing.component import ComponentSuite


class Opened(NamedTuple):
    """A dataset that is there.

    Attributes:
        component: How a recipe names it.
        data: Section `data`.
        source: The source.
        samples: What it lists.
    """

    component: Chosen
    data: Data
    source: SampleSource
    samples: Sequence[Sample[Any]]


class DatasetSuite(ComponentSuite):
    """What the core relies on in every dataset.

    The dataset that is written needs two samples at least, with differing views.

    Attributes:
        size: Side at which images are read.
    """

    kind: ClassVar[str] = "dataset"
    size: ClassVar[int] = 32

    def write_dataset(self, folder: Path) -> Mapping[str, Any]:
        """Write a small dataset into an empty folder.

        Returns:
            The keys of section `data` that it needs, such as `root` and `views`; sizes are set by the suite.
        """
        raise NotImplementedError

    def dataset_options(self, folder: Path) -> Mapping[str, Any]:  # noqa: ARG002 (for authors to use)
        """Return the options of `data.source` for the dataset in `folder`, beside those of the option set."""
        return {}

    @pytest.fixture
    def opened(self, request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
        """The written dataset, opened as a run opens it, which checks ids, views, maps and cameras."""
        folder = tmp_path / "dataset"
        folder.mkdir()
        keys = {**self.write_dataset(folder), "image_size": self.size, "output_size": self.size}
        data = msgspec.convert({"pack": str(tmp_path / "pack"), **keys}, Data)
        options = self.make_options({**request.param, **self.dataset_options(folder)})
        component = default_registry().choose("dataset", self.use, options, name="source")
        return Opened(component, data, *open_source(component, data))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test once for every option set."""
        super().pytest_generate_tests(metafunc)
        if "opened" in metafunc.fixturenames:
            metafunc.parametrize("opened", self.option_sets, indirect=True)

    def test_lists_samples_that_the_core_can_use(self, opened: Opened) -> None:
        """There are two samples at least, with text for names, and keys that a mapping can hold."""
        assert len(opened.samples) >= 2, "write at least two samples"
        for sample in opened.samples:
            for name in ("id", "source", "material"):
                value = getattr(sample, name)
                assert isinstance(value, str), f"{name} is {value!r}, not text"
                assert value, f"{name} of a sample is empty"
        assert len({key for _, key in asked_images(opened.samples)}) > 1, "all images have one key"

    def test_lists_the_same_again(self, opened: Opened) -> None:
        """Another instance lists equal samples in the same order: runs and their splits can be repeated."""
        again: SampleSource = self.create(opened.component.options, data=opened.data)
        assert list(again.samples()) == list(opened.samples), "a second instance lists other samples"

    def test_reads_every_image_at_the_size_asked_for(self, opened: Opened) -> None:
        """Views and maps are uint8, channels first, at any size."""
        for size in (self.size, 2 * self.size, self.size // 2):
            for role, key in asked_images(opened.samples):
                read_image(opened.source, key, role, size)

    def test_reads_the_same_again_also_from_several_threads(self, opened: Opened) -> None:
        """Reading leaves no trace: order and threads change nothing, and what was returned stays as it is."""
        asked = asked_images(opened.samples)
        first = [self.read(opened, image) for image in asked]
        before = [pixels.copy() for pixels in first]
        with ThreadPoolExecutor(4) as pool:
            later = list(pool.map(lambda image: self.read(opened, image), asked[::-1] * 2))
        for (role, key), pixels, copy, other in zip(asked, first, before, later[len(asked) - 1 :: -1], strict=True):
            np.testing.assert_array_equal(pixels, copy, f"{role} {key} changed after it was returned")
            np.testing.assert_array_equal(pixels, other, f"{role} {key} is read differently the second time")

    def test_views_differ(self, opened: Opened) -> None:
        """Keys are told apart."""
        views = {self.read(opened, image).tobytes() for image in asked_images(opened.samples) if image[0] == VIEW}
        assert len(views) > 1, "all views have the same pixels"

    def test_digests_name_contents(self, opened: Opened) -> None:
        """Images that differ have different digests, and another instance gives the same ones."""
        asked = asked_images(opened.samples)
        found = digest_images(opened.source, opened.samples)
        again: SampleSource = self.create(opened.component.options, data=opened.data)
        again.samples()
        assert digest_images(again, opened.samples) == found, "a second instance gives other digests"
        wrong = [digest for digest in found.values() if not re.fullmatch(r"[A-Za-z0-9-]+", str(digest))]
        assert not wrong, f"digests are letters, digits and `-`, not {wrong[0]!r}"
        pixels: dict[tuple[str, str], bytes] = {}
        for role, key in asked:
            content = self.read(opened, (role, key)).tobytes()
            same = pixels.setdefault((role, found[key]), content) == content
            assert same, f"{role} {key} has the digest of an image with other pixels"

    def test_digests_are_in_the_order_of_the_keys(self, opened: Opened) -> None:
        """One for each key, also when a key is asked for twice or alone."""
        keys = list(dict.fromkeys(key for _, key in asked_images(opened.samples)))
        found = digest_images(opened.source, opened.samples)
        asked = [*keys[::-1], keys[0]]
        assert list(opened.source.digests(asked)) == [found[key] for key in asked], "digests are in another order"
        assert list(opened.source.digests([])) == [], "no keys have no digests"

    def test_loads_from_a_pack_and_without(self, opened: Opened) -> None:
        """A batch of all samples is the same both ways, and is what the network gets."""
        done = pack_dataset(opened.component, opened.data)
        assert done.packed > 0
        packed, decoded = (self.batch(opened, pack) for pack in (opened.data.pack, "off"))
        assert packed.ids == [sample.id for sample in opened.samples]
        assert packed.views.equal(decoded.views), "views from a pack differ"
        for name, target in packed.targets.items():
            assert target.equal(decoded.targets[name]), f"{name} from a pack differs"
        prepared = prepare(packed, opened.data, "cpu")
        assert bool(prepared.views.isfinite().all()), "views are not finite"
        assert set(prepared.targets) == set(MAPS)

    def read(self, opened: Opened, image: tuple[str, Hashable]) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """Read an image by its role and key."""
        return read_image(opened.source, image[1], image[0], self.size)

    def batch(self, opened: Opened, pack: str) -> Any:
        """All samples in one batch."""
        data = replace(opened.data, pack=pack)
        digests = digest_images(opened.source, opened.samples)
        images = open_images(opened.source, opened.samples, data, digests)
        dataset = MaterialDataset(opened.samples, data, images)
        return next(iter(val_loader(dataset, len(opened.samples))))
