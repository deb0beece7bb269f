"""The ExecuTorch exporter."""

from pathlib import Path

import pytest
import torch
from torch import nn

from neuropbr_core.errors import ExportError
from neuropbr_core.testing.exporter import ExporterSuite, TinyGenerator, example_export_spec
from neuropbr_exporters.executorch import Options
from neuropbr_exporters.executorch.exporter import ExecuTorchExporter
from neuropbr_exporters.exported import quiet


class TestExecuTorch(ExporterSuite):
    use = "executorch"


@pytest.mark.slow
class TestPortableExecuTorch(ExporterSuite):
    use = "executorch"
    option_sets = ({"backend": "portable"},)


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
