"""The TorchScript exporter."""

from pathlib import Path

import pytest
import torch
from torch import nn

from neuropbr_core.errors import ExportError, ModelError
from neuropbr_core.testing.exporter import ExporterSuite, TinyGenerator, example_export_spec
from neuropbr_exporters.torchscript import Options
from neuropbr_exporters.torchscript.exporter import TorchScriptExporter


class TestTorchScript(ExporterSuite):
    use = "torchscript"
    option_sets = ({}, {"optimize": True})


def export(folder: Path, *, optimize: bool = False) -> Path:
    path = folder / "deep" / "model.pt"
    exporter = TorchScriptExporter(Options(optimize))
    return exporter.export(TinyGenerator(directed=True), example_export_spec(), path).path


def read(path: Path) -> torch.jit.ScriptModule:
    return torch.jit.load(str(path))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_other_programs_can_call_it_by_name_or_in_order(tmp_path: Path) -> None:
    """What a C++ program sees: named inputs in call order, a tuple of maps in the spec's order."""
    program, inputs = read(export(tmp_path)), example_export_spec(seed=3).inputs
    by_name, by_place = program(**inputs), program(*inputs.values())
    assert [tuple(value.shape) for value in by_name] == [(1, n, 16, 16) for n in (3, 1, 1, 3)]
    assert all(torch.equal(a, b) for a, b in zip(by_name, by_place, strict=True))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_optimize_freezes_weights_and_folds_normalisation(tmp_path: Path) -> None:
    plain, optimized = read(export(tmp_path / "a")), read(export(tmp_path / "b", optimize=True))
    assert "batch_norm" in str(plain.inlined_graph)
    assert "batch_norm" not in str(optimized.inlined_graph)
    assert list(plain.parameters())
    assert not list(optimized.parameters())


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    """A traced program has its sizes built in, and would be silently wrong on others."""
    program = TorchScriptExporter(Options()).load(export(tmp_path))
    with pytest.raises(ExportError, match=r"got views 1×2×3×24×24, .* takes views 1×2×3×16×16, visible 1×2×1×16×16"):
        program(example_export_spec(size=24).inputs)


def test_foreign_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    with pytest.warns(FutureWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(nn.ReLU(), torch.rand(2)), str(path))
    with pytest.raises(ExportError, match=r"foreign\.pt: a TorchScript file, but .* has no neuropbr\.json"):
        TorchScriptExporter(Options()).load(path)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    path = export(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ExportError, match=r"model\.pt: not a TorchScript file, or damaged \(.+\); export"):
        TorchScriptExporter(Options()).load(path)


def test_missing_output_is_named(tmp_path: Path) -> None:
    spec = example_export_spec(("views",), ("albedo", "height"))
    with pytest.raises(ExportError, match="does not predict height; it predicts albedo, roughness, metallic, normal"):
        TorchScriptExporter(Options()).export(TinyGenerator(), spec, tmp_path / "model.pt")


def test_the_models_own_refusal_is_passed_on(tmp_path: Path) -> None:
    class Refusing(TinyGenerator):
        def forward(self, *_: object, **__: object) -> None:
            raise ModelError("views are 10×10 pixels")

    with pytest.raises(ModelError, match="10×10"):
        TorchScriptExporter(Options()).export(Refusing(), example_export_spec(), tmp_path / "model.pt")


def test_unwritable_folder_is_an_export_error(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("a file where the folder should be")
    with pytest.raises(ExportError, match=r"model\.pt: could not be written"):
        export(tmp_path)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ExportError, match="No space left"):
        export(tmp_path)
    assert list((tmp_path / "deep").iterdir()) == []
