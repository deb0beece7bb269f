"""Conformance suite of datasets. An author overrides `write_dataset`, which writes a small dataset.

A test of an author's package subclasses it:

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
from neuropbr_core.data.pack.choose import digest_images, list_images, open_images
from neuropbr_core.data.pack.store import VIEW, read_image
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.registry.chosen import Chosen
from neuropbr_core.testing.component import ComponentSuite


class Opened(NamedTuple):
    """An opened dataset.

    Attributes:
        component: The dataset component with its options.
        data: Section `data` of a recipe.
        source: The source that the component created.
        samples: The samples of the source.
    """

    component: Chosen
    data: Data
    source: SampleSource
    # Listed once: tests compare what a second instance lists.
    samples: Sequence[Sample[Any]]


class DatasetSuite(ComponentSuite):
    """Tests of everything that the core relies on in a dataset (`neuropbr_core.contracts.SampleSource`).

    The written dataset needs at least two samples, with views that differ.

    Attributes:
        size: Side at which images are read.
    """

    kind: ClassVar[str] = "dataset"
    size: ClassVar[int] = 32

    def write_dataset(self, folder: Path) -> Mapping[str, Any]:
        """Write a small dataset into an empty folder.

        Args:
            folder: The folder.

        Returns:
            The keys of section `data` that the dataset needs, such as `root` and `views`; the suite sets the sizes.
        """
        raise NotImplementedError(
            "a suite of datasets must override write_dataset; `neuropbr plugin check` finds it in `suite.py` beside "
            "the dataset's thin module"
        )

    def create_from_defaults(self, folder: Path) -> None:
        """Build the source from default options, with the written dataset."""
        data = msgspec.convert({"pack": "off", **self.write_dataset(folder)}, Data)
        self.create(self.make_options(self.dataset_options(folder)), data=data)

    def dataset_options(self, folder: Path) -> Mapping[str, Any]:  # noqa: ARG002 (for authors to use)
        """Return the options of `data.source` that depend on the folder.

        Args:
            folder: The folder that `write_dataset` wrote to.

        Returns:
            Options by name, which are added to those of the option set.
        """
        return {}

    @pytest.fixture
    def opened(self, request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
        """Write the dataset, and open it as a run does, which checks ids, views, maps and cameras."""
        folder = tmp_path / "dataset"
        folder.mkdir()
        keys = {**self.write_dataset(folder), "image_size": self.size, "output_size": self.size}
        # An author's keys may move the pack, but not change the sizes that the suite asks for.
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
        assert len(opened.samples) >= 2, (
            f"write_dataset must write at least two samples, but the source lists {len(opened.samples)}"
        )
        for sample in opened.samples:
            for name in ("id", "condition", "material"):
                value = getattr(sample, name)
                assert isinstance(value, str), f"Sample.{name} must be text, but is {value!r}"
                assert value, f"Sample.{name} must not be empty, but is for sample {sample.id!r}"
        # Images with one key would become one image in a pack.
        keys = {key for _, key in list_images(opened.samples)}
        assert len(keys) > 1, f"images that differ must have different keys, but all images have the key {keys}"

    def test_lists_the_same_again(self, opened: Opened) -> None:
        """Another instance lists equal samples in the same order: runs and their splits can be repeated."""
        again: SampleSource = self.create(opened.component.options, data=opened.data)
        assert list(again.samples()) == list(opened.samples), (
            "SampleSource.samples must list the same samples in the same order every time, because splits depend on "
            "it, but a second instance lists other samples"
        )

    def test_reads_every_image_at_the_size_asked_for(self, opened: Opened) -> None:
        """Views and maps are uint8, channels first, at any size."""
        # `read_image` checks dtype and shape, and raises an error that names the source.
        for size in (self.size, 2 * self.size, self.size // 2):
            for role, key in list_images(opened.samples):
                read_image(opened.source, key, role, size)

    def test_reads_the_same_again_also_from_several_threads(self, opened: Opened) -> None:
        """Reading has no side effect: order and threads change nothing, and a returned array stays as it is."""
        asked = list_images(opened.samples)
        first = []
        copies = []
        for image in asked:
            pixels = self.read(opened, image)
            first.append(pixels)
            # Copied before the next read: a source that reuses its memory would change what it returned before.
            copies.append(pixels.copy())
        # In reverse order and twice, so that threads read one image at the same time.
        with ThreadPoolExecutor(4) as pool:
            reversed_twice = list(pool.map(lambda image: self.read(opened, image), asked[::-1] * 2))
        again = reversed_twice[: len(asked)][::-1]
        for (role, key), pixels, copy, other in zip(asked, first, copies, again, strict=True):
            np.testing.assert_array_equal(
                pixels,
                copy,
                f"SampleSource must return a new array each time: {role} {key} changed after it was returned",
            )
            np.testing.assert_array_equal(
                pixels, other, f"SampleSource must read the same pixels each time: {role} {key} differs the second time"
            )

    def test_views_differ(self, opened: Opened) -> None:
        """Different keys give different views."""
        # A source that mixes up its keys would pass all other tests, which compare it with itself.
        views: set[bytes] = set()
        for role, key in list_images(opened.samples):
            if role == VIEW:
                views.add(self.read(opened, (role, key)).tobytes())
        assert len(views) > 1, (
            "SampleSource.read_view must read the view that the key names, and the written views must differ, but all "
            "views have the same pixels"
        )

    def test_digests_name_contents(self, opened: Opened) -> None:
        """Images that differ have different digests, and another instance gives the same ones."""
        asked = list_images(opened.samples)
        digests = digest_images(opened.source, opened.samples)
        again: SampleSource = self.create(opened.component.options, data=opened.data)
        # The core lists samples before it asks for digests, so a source may prepare them there.
        again.samples()
        assert digest_images(again, opened.samples) == digests, (
            "SampleSource.digests must depend on the stored images alone, but a second instance gives other digests"
        )
        # Digests become parts of file names.
        for digest in digests.values():
            assert re.fullmatch(r"[A-Za-z0-9-]+", str(digest)), (
                f"SampleSource.digests: digests are letters, digits and `-`, not {digest!r}"
            )
        # Views and maps are stored apart, so only images of one role must have different digests.
        pixels: dict[tuple[str, str], bytes] = {}
        for role, key in asked:
            content = self.read(opened, (role, key)).tobytes()
            same = pixels.setdefault((role, digests[key]), content) == content
            assert same, (
                f"SampleSource.digests must differ for images that differ, but {role} {key} has the digest of an image "
                f"with other pixels"
            )

    def test_digests_are_in_the_order_of_the_keys(self, opened: Opened) -> None:
        """There is one digest for each key, also for a repeated key and for no key."""
        # Samples may share an image, such as the maps of one material.
        keys = list(dict.fromkeys(key for _, key in list_images(opened.samples)))
        digests = digest_images(opened.source, opened.samples)
        # In reverse, and the last key twice: a source that sorts or that drops duplicates would show.
        asked = [*keys[::-1], keys[0]]
        assert list(opened.source.digests(asked)) == [digests[key] for key in asked], (
            "SampleSource.digests must return one digest for each key in the order of the keys, but the digests are in "
            "another order"
        )
        none = list(opened.source.digests([]))
        assert none == [], f"SampleSource.digests must return no digests for no keys, but returned {none}"

    def test_loads_from_a_pack_and_without(self, opened: Opened) -> None:
        """A batch of all samples is the same with and without a pack, and has what the network needs."""
        # The same samples in the same order, so that the pack can be switched on in the middle of a project.
        report = pack_dataset(opened.component, opened.data)
        # An empty pack would let the comparison below compare the source with itself.
        assert report.packed > 0, "packing must store the images of the dataset, but stored none"
        packed = self.batch(opened, opened.data.pack)
        decoded = self.batch(opened, "off")
        ids = [sample.id for sample in opened.samples]
        assert packed.ids == ids, f"a batch must list the samples in order: expected {ids}, got {packed.ids}"
        assert packed.views.equal(decoded.views), "a pack must hold the views of the source, but they differ"
        for name, target in packed.targets.items():
            assert target.equal(decoded.targets[name]), f"a pack must hold the maps of the source, but {name} differs"
        prepared = prepare(packed, opened.data, "cpu")
        assert bool(prepared.views.isfinite().all()), "prepared views must be finite, but are not"
        assert set(prepared.targets) == set(MAPS), (
            f"a batch must have a target for every map: expected {sorted(MAPS)}, got {sorted(prepared.targets)}"
        )

    def read(self, opened: Opened, image: tuple[str, Hashable]) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """Read an image at the suite's size.

        Args:
            opened: The dataset.
            image: The image's role (`view` or the name of a map) and key.

        Returns:
            The pixels, channels first.
        """
        role, key = image
        return read_image(opened.source, key, role, self.size)

    def batch(self, opened: Opened, pack: str) -> Any:
        """Load all samples in one batch.

        Args:
            opened: The dataset.
            pack: Value of `data.pack`: a folder, or `off`.

        Returns:
            The batch.
        """
        data = replace(opened.data, pack=pack)
        digests = digest_images(opened.source, opened.samples)
        images = open_images(opened.source, opened.samples, data, digests)
        dataset = MaterialDataset(opened.samples, data, images)
        return next(iter(val_loader(dataset, len(opened.samples))))
