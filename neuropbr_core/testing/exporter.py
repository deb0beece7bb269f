"""Conformance suite of exporters.

from neuropbr_core.testing.exporter import ExporterSuite

class TestTorchScript(ExporterSuite):
    use = "torchscript"
    option_sets = ({}, {"optimize": True})
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Exporter, ExportReport, ExportSpec, Maps, Prediction
from neuropbr_core.errors import ExportError
from neuropbr_core.exporting.verify import PASS_MARKS
from neuropbr_core.maps import MAP_NAMES, MAPS
from neuropbr_core.model.heads import activate
from neuropbr_core.testing.component import ComponentSuite

PROMISES = tuple(PASS_MARKS)
"""Precisions that verification has a pass mark for."""


class TinyGenerator(nn.Module):
    """A generator of a few hundred weights that does what large ones do.

    It normalises views, encodes them as one batch (with batch normalisation), averages over views by what is visible,
    upsamples, and has a head a map.

    Args:
        directed: Read `directions` beside the views.
        seed: Seed of weights and of batch normalisation's statistics.
    """

    def __init__(self, *, directed: bool = False, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.directed = directed
            self.encode = nn.Conv2d(6 if directed else 3, 8, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.norm.running_mean = torch.randn(8)
            self.norm.running_var = torch.rand(8) + 0.5
            self.heads = nn.ModuleDict({name: nn.Conv2d(8, spec.logit_channels, 1) for name, spec in MAPS.items()})
        self.eval()

    def forward(
        self,
        views: Tensor,
        visible: Tensor | None = None,
        directions: Tensor | None = None,
        *,
        features: bool = False,
    ) -> Prediction:
        """Predict maps as `neuropbr_core.model.Generator` does."""
        if visible is None:
            visible = torch.ones_like(views[:, :, :1])
        images = (views - 0.5) * visible
        if self.directed:
            assert directions is not None
            images = torch.cat((images, directions * visible), dim=2)
        latents = _per_view(F.relu(self.norm(self.encode(images.flatten(0, 1)))), views)
        seen = _per_view(F.avg_pool2d(visible.flatten(0, 1), 2), views)
        latent = (latents * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1e-3)
        decoded = F.interpolate(latent, size=views.shape[-2:], mode="bilinear", align_corners=False)
        logits = {name: head(decoded) for name, head in self.heads.items()}
        maps = {name: activate(MAPS[name], value) for name, value in logits.items()}
        return Prediction(maps, logits, {"latent": latent} if features else {})


def _per_view(images: Tensor, views: Tensor) -> Tensor:
    return images.view(*views.shape[:2], *images.shape[1:])


class FailingGenerator(TinyGenerator):
    """A generator that no exporter can export: it raises when it runs."""

    def forward(self, *_: Tensor | None, features: bool = False, **__: Tensor | None) -> Prediction:  # noqa: ARG002
        """Raise, as a model with an unsuitable size would."""
        raise RuntimeError("this generator always fails")


def example_export_spec(
    inputs: Sequence[str] = ("views", "visible", "directions"),
    outputs: Sequence[str] = MAP_NAMES,
    *,
    views: int = 2,
    size: int = 16,
    seed: int = 0,
) -> ExportSpec:
    """Make a spec with random inputs.

    Args:
        inputs: Which inputs there are, in call order.
        outputs: The maps, in order.
        views: Views of the sample.
        size: Side of the views, in pixels; even, as `TinyGenerator` wants it.
        seed: Seed of the inputs' values.
    """
    random = torch.Generator().manual_seed(seed)
    shape = (1, views, 3, size, size)
    every = {
        "views": torch.rand(shape, generator=random),
        "visible": (torch.rand((1, views, 1, size, size), generator=random) > 0.2).float(),
        "directions": F.normalize(torch.randn(shape, generator=random), dim=2),
    }
    metadata = {"run": "conformance", "note": "naïve 纹理 “quotes”\nand a second line"}
    return ExportSpec({name: every[name] for name in inputs}, tuple(outputs), metadata, multiple=2)


class ExporterSuite(ComponentSuite):
    """What the core relies on in every exporter.

    Tests that write are skipped where the exporter's requirements are not met.

    Attributes:
        tolerance: Largest difference from the model, in a map's own range.
        input_sets: Inputs to export with, in call order; directions come with a view-conditioned model.
        holds_metadata: Whether the format can hold text.
    """

    kind = "exporter"
    tolerance: ClassVar[float] = 1e-5
    input_sets: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("views",),
        ("views", "visible"),
        ("views", "visible", "directions"),
    )
    holds_metadata: ClassVar[bool] = True

    @pytest.fixture
    def exporter(self, options: Any) -> Exporter:
        """The exporter under test, on a machine that has what it needs."""
        exporter = self.make_exporter(options)
        if not (available := exporter.requirements()).ok:
            pytest.skip(available.reason)
        return exporter

    def make_exporter(self, options: Any) -> Exporter:
        """Build the exporter."""
        exporter = self.create(options)
        assert isinstance(exporter, Exporter), f"{type(exporter)} is not an Exporter"
        return exporter

    def test_requirements_say_what_is_missing(self, options: Any) -> None:
        """The answer comes without an exception, and a refusal has a reason."""
        available = self.make_exporter(options).requirements()
        assert available.ok or available.reason

    def test_suffix_names_the_format(self, options: Any) -> None:
        """Files of this exporter can be told by their suffix."""
        suffix = self.make_exporter(options).suffix
        assert suffix.startswith("."), f"suffix is {suffix!r}"
        assert len(suffix) > 1

    def test_export_writes_one_file_and_reports_it(self, exporter: Exporter, tmp_path: Path) -> None:
        """The report names the path that was asked for and a known precision; nothing else is left in the folder."""
        report = _export(exporter, tmp_path)
        assert report.path == tmp_path / f"model{exporter.suffix}"
        assert list(tmp_path.iterdir()) == [report.path]
        assert report.precision == exporter.precision
        assert report.precision in PROMISES

    def test_every_input_set_equals_the_model(self, exporter: Exporter, tmp_path: Path) -> None:
        """The file gives the model's maps, on inputs that the export did not see."""
        for number, names in enumerate(self.input_sets):
            generator = TinyGenerator(directed="directions" in names)
            report = _export(exporter, tmp_path / str(number), generator, example_export_spec(names))
            program = exporter.load(report.path)
            for seed in (1, 2):
                inputs = example_export_spec(names, seed=seed).inputs
                self._compare(program(inputs), _maps(generator, inputs))

    def test_outputs_are_those_of_the_spec(self, exporter: Exporter, tmp_path: Path) -> None:
        """Only the maps that were asked for, in that order, each with its own content."""
        outputs = ("normal", "metallic")
        report = _export(exporter, tmp_path, TinyGenerator(), example_export_spec(("views",), outputs))
        inputs = example_export_spec(("views",), seed=1).inputs
        found, expected = exporter.load(report.path)(inputs), _maps(TinyGenerator(), inputs)
        assert tuple(found) == outputs
        self._compare(found, {name: expected[name] for name in outputs})

    def test_metadata_is_kept(self, exporter: Exporter, tmp_path: Path) -> None:
        """Text comes back as it was given, where the format can hold it."""
        metadata = exporter.read_metadata(_export(exporter, tmp_path).path)
        expected = example_export_spec().metadata if self.holds_metadata else {}
        assert {key: metadata.get(key) for key in expected} == expected
        assert self.holds_metadata or metadata == {}

    def test_model_is_left_as_it_was(self, exporter: Exporter, tmp_path: Path) -> None:
        """Exporting changes neither weights nor mode."""
        generator, untouched = TinyGenerator(directed=True), TinyGenerator(directed=True)
        _export(exporter, tmp_path, generator)
        assert not any(module.training for module in generator.modules())
        assert all(parameter.requires_grad for parameter in generator.parameters())
        for name, value in untouched.state_dict().items():
            assert torch.equal(generator.state_dict()[name], value), name

    def test_a_failed_export_leaves_nothing(self, exporter: Exporter, tmp_path: Path) -> None:
        """A model that cannot be exported is an ExportError, and there is no file, not even half of one."""
        with pytest.raises(ExportError, match="always fails"):
            _export(exporter, tmp_path, FailingGenerator())
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_leaves_nothing(self, exporter: Exporter, tmp_path: Path) -> None:
        """A file that cannot be written is an ExportError, not the end of the process, and nothing is left of it."""
        with _no_room(), pytest.raises(ExportError):
            _export(exporter, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_failed_export_keeps_the_earlier_file(self, exporter: Exporter, tmp_path: Path) -> None:
        """An export that worked before is still whole after one that does not."""
        report = _export(exporter, tmp_path)
        with pytest.raises(ExportError):
            _export(exporter, tmp_path, FailingGenerator())
        inputs = example_export_spec(seed=1).inputs
        self._compare(exporter.load(report.path)(inputs), _maps(TinyGenerator(directed=True), inputs))

    def test_export_again_replaces_the_file(self, exporter: Exporter, tmp_path: Path) -> None:
        """A second export under the same name is the one that is read."""
        _export(exporter, tmp_path)
        other = TinyGenerator(directed=True, seed=1)
        report = _export(exporter, tmp_path, other)
        inputs = example_export_spec(seed=1).inputs
        self._compare(exporter.load(report.path)(inputs), _maps(other, inputs))

    def test_garbage_is_refused_by_name(self, exporter: Exporter, tmp_path: Path) -> None:
        """A missing file, and one of another format, are ExportErrors that name the path."""
        path = tmp_path / f"garbage{exporter.suffix}"
        with pytest.raises(ExportError, match="garbage"):
            exporter.load(path)
        path.write_bytes(b"this is not an exported model")
        for read in (exporter.load, exporter.read_metadata) if self.holds_metadata else (exporter.load,):
            with pytest.raises(ExportError, match="garbage"):
                read(path)

    def test_wrong_inputs_are_refused_by_name(self, exporter: Exporter, tmp_path: Path) -> None:
        """A missing or an unknown input is an ExportError that names what belongs there."""
        program = exporter.load(_export(exporter, tmp_path).path)
        inputs = example_export_spec().inputs
        with pytest.raises(ExportError, match="directions"):
            program({name: value for name, value in inputs.items() if name != "directions"})
        with pytest.raises(ExportError, match="depth"):
            program({**inputs, "depth": inputs["visible"]})

    def _compare(self, found: Maps, expected: Maps) -> None:
        assert set(found) == set(expected)
        for name, truth in expected.items():
            assert found[name].shape == truth.shape, name
            difference = (found[name] - truth).abs().max().item()
            assert difference <= self.tolerance, f"{name} differs from the model by {difference:.2g}"


@contextmanager
def _no_room() -> Iterator[None]:
    """Files cannot grow beyond a kilobyte, as on a disk that is nearly full."""
    resource = pytest.importorskip("resource", reason="this system has no limit on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _export(
    exporter: Exporter, folder: Path, generator: nn.Module | None = None, spec: ExportSpec | None = None
) -> ExportReport:
    path = folder / f"model{exporter.suffix}"
    return exporter.export(generator or TinyGenerator(directed=True), spec or example_export_spec(), path)


@torch.no_grad()
def _maps(generator: nn.Module, inputs: dict[str, Tensor]) -> Maps:
    maps: Maps = generator(**inputs).maps
    return maps
