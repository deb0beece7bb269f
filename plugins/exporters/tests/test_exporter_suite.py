"""The conformance suite of exporters finds each fault that it is there to find."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor, nn

from neuropbr_core.contracts import Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.testing.exporter import ExporterSuite, TinyGenerator
from neuropbr_exporters.torchscript import Options
from neuropbr_exporters.torchscript.exporter import TorchScriptExporter

Program = Callable[[Mapping[str, Tensor]], Maps]


class Suite(ExporterSuite):
    """The suite, to call its tests by hand."""


class SwapsOutputs(TorchScriptExporter):
    def load(self, path: Path) -> Program:
        program = super().load(path)
        return lambda inputs: dict(zip(maps := program(inputs), reversed(maps.values()), strict=True))


class KeepsExampleOutputs(TorchScriptExporter):
    """Returns what it saw first, as a trace that baked its inputs in would."""

    def load(self, path: Path) -> Program:
        program, first = super().load(path), []

        def run(inputs: Mapping[str, Tensor]) -> Maps:
            first.append(program(inputs))
            return first[0]

        return run


class LosesMetadata(TorchScriptExporter):
    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        return super().export(generator, replace(spec, metadata={}), path)


class WritesInPlace(TorchScriptExporter):
    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        path.write_bytes(b"half")
        return super().export(generator, spec, path)


class LeavesScraps(TorchScriptExporter):
    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        path.with_name("scrap").write_bytes(b"")
        return super().export(generator, spec, path)


class TakesAnything(TorchScriptExporter):
    def load(self, path: Path) -> Program:
        return lambda _: {}


class ChangesTheModel(TorchScriptExporter):
    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        report = super().export(generator, spec, path)
        generator.train()
        return report


class ReportsNumbers(TorchScriptExporter):
    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        report = super().export(generator, spec, path)
        return replace(report, details={"operators": 12})  # type: ignore[dict-item]


class Coarse(TorchScriptExporter):
    """Rounds maps to steps of 1/128, as half precision with large numbers does."""

    def load(self, path: Path) -> Program:
        program = super().load(path)

        def run(inputs: Mapping[str, Tensor]) -> Maps:
            return {name: (value * 128).round() / 128 for name, value in program(inputs).items()}

        return run


def test_the_tolerance_follows_from_the_precision(tmp_path: Path) -> None:
    exporter = Coarse(Options())
    with pytest.raises(AssertionError, match=r"of precision fp32 must give .* tolerance of 1e-05"):
        Suite().test_every_input_set_equals_the_model(exporter, tmp_path)
    exporter.precision = "fp16"
    Suite().test_export_again_replaces_the_file(exporter, tmp_path)


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        ("test_every_input_set_equals_the_model", SwapsOutputs),
        ("test_every_input_set_equals_the_model", KeepsExampleOutputs),
        ("test_outputs_are_those_of_the_spec", SwapsOutputs),
        ("test_metadata_is_kept", LosesMetadata),
        ("test_a_failed_export_leaves_nothing", WritesInPlace),
        ("test_a_full_disk_leaves_nothing", WritesInPlace),
        ("test_a_failed_export_leaves_nothing", LeavesScraps),
        ("test_export_writes_one_file_and_reports_it", LeavesScraps),
        ("test_export_writes_one_file_and_reports_it", ReportsNumbers),
        ("test_garbage_is_refused_by_name", TakesAnything),
        ("test_wrong_inputs_are_refused_by_name", TakesAnything),
        ("test_model_is_left_as_it_was", ChangesTheModel),
    ],
)
def test_faults_are_found(test: str, fault: type[Exporter], tmp_path: Path) -> None:
    faulty: Exporter = fault(Options())  # type: ignore[call-arg]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(Suite(), test)(faulty, tmp_path)


def test_the_suites_generator_reads_all_its_inputs() -> None:
    """Else an export that drops one would pass."""
    from neuropbr_core.testing.exporter import example_export_spec

    generator = TinyGenerator(directed=True)
    inputs, others = example_export_spec(seed=1).inputs, example_export_spec(seed=2).inputs
    expected = generator(**inputs).maps["albedo"]
    for name in inputs:
        changed = generator(**{**inputs, name: others[name]}).maps["albedo"]
        assert (changed - expected).abs().max() > 1e-3, name
