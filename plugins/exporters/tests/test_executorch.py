"""The ExecuTorch exporter."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuropbr_core.errors import ExportError
from neuropbr_core.testing.exporter import ExporterSuite, TinyGenerator, example_export_spec
from neuropbr_exporters.executorch import Options, core_ml
from neuropbr_exporters.executorch.exporter import ExecuTorchExporter
from neuropbr_exporters.files import Manifest
from neuropbr_exporters.graphs import quiet


class TestExecuTorch(ExporterSuite):
    use = "executorch"


@pytest.mark.slow
class TestPortableExecuTorch(ExporterSuite):
    use = "executorch"
    option_sets = ({"backend": "portable"},)


@pytest.mark.slow
class TestCoreMLExecuTorch(ExporterSuite):
    use = "executorch"
    option_sets = ({"backend": "coreml"},)
    tolerance = 0.01  # FP16


def export(folder: Path, backend: str = "xnnpack") -> Path:
    exporter, path = ExecuTorchExporter(Options(backend)), folder / "deep" / "model.pte"  # type: ignore[arg-type]
    return exporter.export(TinyGenerator(directed=True), example_export_spec(), path).path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with the default options, to read only."""
    return export(tmp_path_factory.mktemp("executorch"))


def test_xnnpack_gets_the_convolutions(tmp_path: Path) -> None:
    spec = example_export_spec()
    reports = {
        backend: ExecuTorchExporter(Options(backend)).export(  # type: ignore[arg-type]
            TinyGenerator(directed=True), spec, tmp_path / f"{backend}.pte"
        )
        for backend in ("xnnpack", "portable")
    }
    assert reports["portable"].details["delegated parts"] == "0"
    assert int(reports["xnnpack"].details["delegated parts"]) > 0
    fewer, all_of_them = (int(reports[name].details["plain operators"]) for name in ("xnnpack", "portable"))
    assert fewer < all_of_them


def test_results_are_kept_when_the_program_runs_again(exported: Path) -> None:
    program = ExecuTorchExporter(Options()).load(exported)
    first = program(example_export_spec(seed=1).inputs)
    kept = {name: value.clone() for name, value in first.items()}
    program(example_export_spec(seed=2).inputs)
    assert all(torch.equal(first[name], kept[name]) for name in first)


def test_other_shapes_are_refused(exported: Path) -> None:
    program = ExecuTorchExporter(Options()).load(exported)
    with pytest.raises(ExportError, match=r"got views 1×2×3×24×24, .* takes views 1×2×3×16×16"):
        program(example_export_spec(size=24).inputs)


def test_foreign_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pte"
    with quiet():
        from executorch.exir import to_edge_transform_and_lower

        edge = to_edge_transform_and_lower(torch.export.export(nn.ReLU(), (torch.rand(2),)))
        path.write_bytes(edge.to_executorch().buffer)
    with pytest.raises(ExportError, match=r"foreign\.pte: an ExecuTorch program, but .* has no method neuropbr"):
        ExecuTorchExporter(Options()).load(path)


@pytest.mark.parametrize("kept", [0, 100, -4000])
def test_truncated_program_is_refused(kept: int, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(exported.read_bytes()[:kept])
    with pytest.raises(ExportError, match=r"model\.pte: not an ExecuTorch program, or damaged"):
        ExecuTorchExporter(Options()).load(path)


@pytest.fixture(scope="module")
def for_core_ml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for Core ML, to read only."""
    return export(tmp_path_factory.mktemp("executorch-coreml"), "coreml")


def test_a_program_for_core_ml_is_evaluated_without_it(for_core_ml: Path) -> None:
    """All of it is one package in FP16, in which the reference evaluator finds the model's maps, rounded."""
    exporter = ExecuTorchExporter(Options("coreml"))
    assert exporter.precision == "fp16"
    assert core_ml.only_core_ml_runs(for_core_ml)
    assert exporter.read_metadata(for_core_ml)["run"] == "conformance"
    inputs = example_export_spec(seed=2).inputs
    maps = exporter.load(for_core_ml)(inputs)
    truth = TinyGenerator(directed=True)(**inputs).maps
    for name, value in truth.items():
        assert 0 < (maps[name] - value).abs().max() < 0.004, name


def test_a_damaged_package_in_a_program_is_refused(for_core_ml: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(for_core_ml.read_bytes()[:-4096])
    with pytest.raises(ExportError, match=r"model\.pte: .*damaged"):
        ExecuTorchExporter(Options("coreml")).load(path)


def test_a_strangers_program_for_core_ml_is_refused(for_core_ml: Path) -> None:
    """ExecuTorch unpacks the package inside to wherever the package says."""
    with pytest.raises(ExportError, match=r"holds a package of Core ML, .*--trust"):
        ExecuTorchExporter(Options("coreml")).load_untrusted(for_core_ml)


@pytest.mark.parametrize("value", [torch.ones(2), 3])
def test_a_manifest_that_is_no_text_is_refused(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "text", lambda _: value)
        path = export(tmp_path, "portable")
    for read in (ExecuTorchExporter(Options()).load_untrusted, ExecuTorchExporter(Options()).read_metadata):
        with pytest.raises(ExportError, match=r"model\.pte: not an ExecuTorch program, or damaged .*no text"):
            read(path)


def test_what_core_ml_has_not_is_refused_by_name(tmp_path: Path) -> None:
    class Spectral(TinyGenerator):
        def forward(self, views: Tensor, *_: Any) -> Any:
            return super().forward(views + torch.linalg.svdvals(views)[..., None])

    exporter = ExecuTorchExporter(Options("coreml"))
    with pytest.raises(ExportError, match=r"executorch: the model cannot be exported: .*svd"):
        exporter.export(Spectral(), example_export_spec(("views",)), tmp_path / "model.pte")
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_core_ml_runs_in_part_is_not_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one of ours: what lies outside the package would be left out."""
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    some = CoreMLPartitioner(skip_ops_for_coreml_delegation=["aten.relu.default"])
    monkeypatch.setattr(core_ml, "partitioner", lambda: some)
    with pytest.raises(ExportError, match=r"model\.pte: Core ML runs only a part of this program"):
        ExecuTorchExporter(Options("coreml")).load(export(tmp_path, "coreml"))


def test_core_ml_needs_what_compiles_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = ExecuTorchExporter(Options("coreml"))
    assert exporter.requirements().ok
    monkeypatch.setattr(core_ml, "find_spec", lambda _: None)
    assert "cannot compile for Core ML; use Linux or macOS" in exporter.requirements().reason
    monkeypatch.setitem(sys.modules, "coremltools", None)
    assert exporter.requirements().reason == "coremltools is not installed; pip install 'neuropbr[executorch,coreml]'"
