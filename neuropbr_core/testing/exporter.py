"""Conformance suite of exporters.

A test of an author's package subclasses it:

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
from neuropbr_core.exporting.record import PASS_MARKS
from neuropbr_core.maps import MAP_NAMES, MAPS
from neuropbr_core.model.decoder import activate
from neuropbr_core.testing.component import ComponentSuite

PROMISES = tuple(PASS_MARKS)
"""Precisions that verification has a pass mark for."""

TOLERANCES = {"fp32": 1e-5, "fp16": 0.01, "palettised": 0.05, "image": 0.01}
"""Largest differences of an export of `TinyGenerator`, in a map's own range, by the precision of the exporter.

Its weights are not trained and amplify rounding, so all but the first are wider than the pass marks of verification."""


class TinyGenerator(nn.Module):
    """A generator of a few hundred weights with the operators of large ones.

    It normalises views, encodes them as one batch (with batch normalisation), averages over views weighted by
    visibility, upsamples, and has a head for each map.

    Args:
        directed: Whether it reads `directions` beside the views.
        seed: Seed of the weights and of the statistics of batch normalisation.
    """

    def __init__(self, *, directed: bool = False, seed: int = 0) -> None:
        super().__init__()
        # A generator of its own, so that building one leaves the draws of a test as they are.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.directed = directed
            in_channels = 3
            if directed:
                in_channels = 6
            self.encode = nn.Conv2d(in_channels, 8, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(8)
            # Statistics as after training: with those of a new layer an exporter could drop it unnoticed.
            self.norm.running_mean = torch.randn(8)
            self.norm.running_var = torch.rand(8) + 0.5
            self.heads = nn.ModuleDict({name: nn.Conv2d(8, spec.logit_channels, 1) for name, spec in MAPS.items()})
        # Exporters are promised eval mode, in which batch normalisation uses its stored statistics.
        self.eval()

    def forward(
        self,
        views: Tensor,
        visible: Tensor | None = None,
        directions: Tensor | None = None,
        *,
        features: bool = False,
    ) -> Prediction:
        """Predict maps as `neuropbr_core.model.Generator` does.

        Args:
            views: Views `(B, V, 3, H, W)`, sRGB-encoded in [0, 1]; H and W are even.
            visible: What each view sees `(B, V, 1, H, W)`, in [0, 1]; everything when it is left out.
            directions: Unit vectors `(B, V, 3, H, W)`; needed by a directed generator only.
            features: Whether the prediction has intermediate features.

        Returns:
            The prediction, with maps of the views' size.
        """
        if visible is None:
            visible = torch.ones_like(views[:, :, :1])
        images = (views - 0.5) * visible
        if self.directed:
            assert directions is not None, (
                "a directed generator must be called with `directions`, but the exporter's program left them out"
            )
            images = torch.cat((images, directions * visible), dim=2)
        latents = _per_view(F.relu(self.norm(self.encode(images.flatten(0, 1)))), views)
        # The encoder halves the size, so visibility is averaged over 2×2 pixels.
        share = _per_view(F.avg_pool2d(visible.flatten(0, 1), 2), views)
        # The clamp keeps pixels that no view sees finite.
        latent = (latents * share).sum(dim=1) / share.sum(dim=1).clamp(min=1e-3)
        decoded = F.interpolate(latent, size=views.shape[-2:], mode="bilinear", align_corners=False)
        logits: Maps = {}
        maps: Maps = {}
        for name, head in self.heads.items():
            logits[name] = head(decoded)
            maps[name] = activate(MAPS[name], logits[name])
        if features:
            return Prediction(maps, logits, {"latent": latent})
        return Prediction(maps, logits, {})


def _per_view(images: Tensor, views: Tensor) -> Tensor:
    return images.view(*views.shape[:2], *images.shape[1:])


class FailingGenerator(TinyGenerator):
    """A generator that no exporter can export, because it raises an error when it runs."""

    def forward(self, *_: Tensor | None, features: bool = False, **__: Tensor | None) -> Prediction:  # noqa: ARG002
        """Raise an error, as a model with an unsuitable size would."""
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
        inputs: Names of the inputs, in call order.
        outputs: The maps, in order.
        views: Views of the sample.
        size: Side of the views in pixels; even, because `TinyGenerator` halves it.
        seed: Seed of the inputs' values.

    Returns:
        The spec; its metadata holds non-ASCII text, quotes and a line break.
    """
    # All three are drawn whatever is asked for, so that `views` are the same for every set of inputs.
    random = torch.Generator().manual_seed(seed)
    shape = (1, views, 3, size, size)
    every = {
        "views": torch.rand(shape, generator=random),
        "visible": (torch.rand((1, views, 1, size, size), generator=random) > 0.2).float(),
        "directions": F.normalize(torch.randn(shape, generator=random), dim=2),
    }
    # Text in which an encoding, a quote or a line break can go wrong.
    metadata = {"run": "conformance", "note": "naïve 纹理 “quotes”\nand a second line"}
    return ExportSpec({name: every[name] for name in inputs}, tuple(outputs), metadata, multiple=2)


class ExporterSuite(ComponentSuite):
    """Tests of everything that the core relies on in an exporter (`neuropbr_core.contracts.Exporter`).

    Tests that write files are skipped on machines that do not meet the exporter's requirements.

    Attributes:
        tolerance: Largest difference from the model, in a map's own range; None for the one in `TOLERANCES` that
            follows from the exporter's `precision`.
        input_sets: Inputs to export with, in call order; a set with `directions` exports a view-conditioned model.
        holds_metadata: Whether the format can hold text.
    """

    kind = "exporter"
    tolerance: ClassVar[float | None] = None
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
        available = exporter.requirements()
        if not available.ok:
            pytest.skip(available.reason)
        return exporter

    def make_exporter(self, options: Any) -> Exporter:
        """Build the exporter.

        Args:
            options: The component's options dataclass.

        Returns:
            The exporter.
        """
        exporter = self.create(options)
        assert isinstance(exporter, Exporter), (
            f"create_exporter must return a neuropbr_core.contracts.Exporter, but returned a {type(exporter).__name__}"
        )
        return exporter

    def test_requirements_say_what_is_missing(self, options: Any) -> None:
        """The answer comes without an exception, and a refusal has a reason."""
        available = self.make_exporter(options).requirements()
        if not available.ok:
            assert available.reason, (
                "Exporter.requirements must give a reason when the exporter cannot work here, but Availability.reason "
                "is empty"
            )

    def test_suffix_names_the_format(self, options: Any) -> None:
        """The suffix identifies files of this exporter."""
        suffix = self.make_exporter(options).suffix
        assert suffix.startswith("."), f"Exporter.suffix must start with a dot, but is {suffix!r}"
        assert len(suffix) > 1, f"Exporter.suffix must have text after the dot, but is {suffix!r}"

    def test_export_writes_one_file_and_reports_it(self, exporter: Exporter, tmp_path: Path) -> None:
        """The report names the requested path and a known precision; the folder holds nothing else."""
        report = _export(exporter, tmp_path)
        expected = tmp_path / f"model{exporter.suffix}"
        assert report.path == expected, (
            f"ExportReport.path must be the path that export was given, {expected}, but is {report.path}"
        )
        written = list(tmp_path.iterdir())
        assert written == [expected], f"Exporter.export must write {expected} and nothing else, but left {written}"
        assert report.precision == exporter.precision, (
            f"ExportReport.precision must be Exporter.precision, {exporter.precision!r}, but is {report.precision!r}"
        )
        # Verification has no pass mark for any other.
        assert report.precision in PROMISES, (
            f"ExportReport.precision must be one of {', '.join(PROMISES)}, but is {report.precision!r}"
        )
        # The record beside the file holds them.
        for name, text in report.details.items():
            are_texts = isinstance(name, str) and isinstance(text, str)
            assert are_texts, f"ExportReport.details must map texts to texts, but has {name!r}: {text!r}"

    def test_every_input_set_equals_the_model(self, exporter: Exporter, tmp_path: Path) -> None:
        """The file gives the model's maps, on inputs that the export did not see."""
        # Other seeds than the spec's: a file in which inputs became constants would pass on the spec's own.
        for number, names in enumerate(self.input_sets):
            generator = TinyGenerator(directed="directions" in names)
            report = _export(exporter, tmp_path / str(number), generator, example_export_spec(names))
            program = exporter.load(report.path)
            for seed in (1, 2):
                inputs = example_export_spec(names, seed=seed).inputs
                self._compare(exporter, program(inputs), _maps(generator, inputs))

    def test_outputs_are_those_of_the_spec(self, exporter: Exporter, tmp_path: Path) -> None:
        """The file gives the maps of the spec and no others, in that order, each with its own content."""
        # Not all maps, and not in the model's order: a file that returns all of them or sorts them would show.
        outputs = ("normal", "metallic")
        report = _export(exporter, tmp_path, TinyGenerator(), example_export_spec(("views",), outputs))
        inputs = example_export_spec(("views",), seed=1).inputs
        maps = exporter.load(report.path)(inputs)
        expected = _maps(TinyGenerator(), inputs)
        assert tuple(maps) == outputs, (
            f"an export must have the maps of ExportSpec.outputs in their order, {outputs}, but has {tuple(maps)}"
        )
        self._compare(exporter, maps, {name: expected[name] for name in outputs})

    def test_metadata_is_kept(self, exporter: Exporter, tmp_path: Path) -> None:
        """A format that can hold text returns it unchanged."""
        metadata = exporter.read_metadata(_export(exporter, tmp_path).path)
        if not self.holds_metadata:
            assert metadata == {}, (
                f"Exporter.read_metadata must return nothing for a format without text, but returned {metadata}: set "
                f"`holds_metadata` of the suite if the format holds it"
            )
            return
        # The format may add entries of its own.
        for key, text in example_export_spec().metadata.items():
            assert metadata.get(key) == text, (
                f"Exporter.read_metadata must return ExportSpec.metadata unchanged: for {key!r} expected {text!r}, got "
                f"{metadata.get(key)!r}"
            )

    def test_model_is_left_as_it_was(self, exporter: Exporter, tmp_path: Path) -> None:
        """Exporting changes neither weights nor mode."""
        generator = TinyGenerator(directed=True)
        # The same seed gives the same weights.
        untouched = TinyGenerator(directed=True)
        _export(exporter, tmp_path, generator)
        for name, module in generator.named_modules():
            assert not module.training, (
                f"Exporter.export must leave the generator in eval mode, but {name or 'the generator'} is in train mode"
            )
        for name, parameter in generator.named_parameters():
            assert parameter.requires_grad, f"Exporter.export must leave `requires_grad` as it was, but froze {name}"
        for name, value in untouched.state_dict().items():
            assert torch.equal(generator.state_dict()[name], value), (
                f"Exporter.export must not change the generator, whose verification follows, but changed {name}"
            )

    def test_a_failed_export_leaves_nothing(self, exporter: Exporter, tmp_path: Path) -> None:
        """A model that cannot be exported raises an ExportError that names the cause, and no file is left."""
        with pytest.raises(ExportError, match="always fails"):
            _export(exporter, tmp_path, FailingGenerator())
        _assert_empty(tmp_path, "that failed")

    def test_a_full_disk_leaves_nothing(self, exporter: Exporter, tmp_path: Path) -> None:
        """A file that cannot be written raises an ExportError, and nothing is left of it."""
        with _no_room(), pytest.raises(ExportError):
            _export(exporter, tmp_path)
        _assert_empty(tmp_path, "for which the disk has no room")

    def test_a_failed_export_keeps_the_earlier_file(self, exporter: Exporter, tmp_path: Path) -> None:
        """A failed export leaves the file of an earlier export whole."""
        report = _export(exporter, tmp_path)
        with pytest.raises(ExportError):
            _export(exporter, tmp_path, FailingGenerator())
        # Other inputs than the export's, so that the whole file is needed to answer.
        inputs = example_export_spec(seed=1).inputs
        self._compare(exporter, exporter.load(report.path)(inputs), _maps(TinyGenerator(directed=True), inputs))

    def test_export_again_replaces_the_file(self, exporter: Exporter, tmp_path: Path) -> None:
        """A second export under the same name replaces the first."""
        # Loaders that cache by path would return the first.
        _export(exporter, tmp_path)
        other = TinyGenerator(directed=True, seed=1)
        report = _export(exporter, tmp_path, other)
        inputs = example_export_spec(seed=1).inputs
        self._compare(exporter, exporter.load(report.path)(inputs), _maps(other, inputs))

    def test_garbage_is_refused_by_name(self, exporter: Exporter, tmp_path: Path) -> None:
        """A missing file, and a file of another format, raise an ExportError that names the path."""
        path = tmp_path / f"garbage{exporter.suffix}"
        with pytest.raises(ExportError, match="garbage"):
            exporter.load(path)
        path.write_bytes(b"this is not an exported model")
        with pytest.raises(ExportError, match="garbage"):
            exporter.load(path)
        # Without metadata in the format there is nothing to read, and no reason to open the file.
        if self.holds_metadata:
            with pytest.raises(ExportError, match="garbage"):
                exporter.read_metadata(path)

    def test_a_strangers_file_gives_the_same_or_is_refused(self, exporter: Exporter, tmp_path: Path) -> None:
        """`load_untrusted` gives what `load` gives, or raises an ExportError that names the path."""
        report = _export(exporter, tmp_path)
        inputs = example_export_spec(seed=1).inputs
        try:
            program = exporter.load_untrusted(report.path)
        except ExportError as error:
            assert report.path.name in str(error), (  # noqa: PT017 - either outcome is right
                "Exporter.load_untrusted must name the file that it refuses"
            )
            return
        self._compare(exporter, program(inputs), _maps(TinyGenerator(directed=True), inputs))

    def test_wrong_inputs_are_refused_by_name(self, exporter: Exporter, tmp_path: Path) -> None:
        """A missing or an unknown input raises an ExportError that names it."""
        # A program that ignores an unknown input would hide a user's spelling mistake.
        program = exporter.load(_export(exporter, tmp_path).path)
        inputs = example_export_spec().inputs
        incomplete = dict(inputs)
        del incomplete["directions"]
        with pytest.raises(ExportError, match="directions"):
            program(incomplete)
        with pytest.raises(ExportError, match="depth"):
            program({**inputs, "depth": inputs["visible"]})

    def _compare(self, exporter: Exporter, maps: Maps, expected: Maps) -> None:
        tolerance = self.tolerance
        if tolerance is None:
            # A precision without a mark has a test of its own.
            tolerance = TOLERANCES.get(exporter.precision, TOLERANCES["fp32"])
        assert set(maps) == set(expected), (
            f"an export must have the maps of ExportSpec.outputs: expected {sorted(expected)}, got {sorted(maps)}"
        )
        for name, model_map in expected.items():
            exported = maps[name]
            # Different shapes may broadcast, and their difference may still be small.
            assert exported.shape == model_map.shape, (
                f"an export must give maps of the model's shape: for {name} expected {tuple(model_map.shape)}, got "
                f"{tuple(exported.shape)}"
            )
            difference = (exported - model_map).abs().max().item()
            assert difference <= tolerance, (
                f"an export of precision {exporter.precision} must give the model's maps within the suite's tolerance "
                f"of {tolerance:.2g}, but {name} differs from the model by {difference:.2g}"
            )


@contextmanager
def _no_room() -> Iterator[None]:
    """Limit files to a kilobyte, as on a disk that is nearly full."""
    # The limit raises OSError in Python, and ends a process whose library writes without Python and without a check.
    resource = pytest.importorskip("resource", reason="this system has no limit on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Only the soft limit: a hard limit that was lowered cannot be raised again.
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


def _assert_empty(folder: Path, failure: str) -> None:
    left = list(folder.iterdir())
    assert not left, f"an export {failure} must leave no file, not even half of one, but left {left}"


@torch.no_grad()
def _maps(generator: nn.Module, inputs: dict[str, Tensor]) -> Maps:
    maps: Maps = generator(**inputs).maps
    return maps
