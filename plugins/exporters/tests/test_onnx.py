"""The ONNX exporter."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from neuropbr_core.errors import ExportError
from neuropbr_core.testing.exporter import ExporterSuite, TinyGenerator, example_export_spec
from neuropbr_exporters.onnx import Options
from neuropbr_exporters.onnx.exporter import OnnxExporter


class TestOnnx(ExporterSuite):
    use = "onnx"


@pytest.mark.slow
class TestOnnxOfOpenSize(ExporterSuite):
    use = "onnx"
    option_sets = ({"batch": "fixed", "size": "open"},)


def export(folder: Path, options: Options | None = None) -> Path:
    spec = example_export_spec()
    path = folder / "deep" / "model.onnx"
    return OnnxExporter(options or Options()).export(TinyGenerator(directed=True), spec, path).path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the default options, to read only."""
    return export(tmp_path_factory.mktemp("onnx"))


def test_other_programs_can_call_it_by_name(exported: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    assert {i.name: i.shape[1:] for i in session.get_inputs()} == {
        "views": [2, 3, 16, 16],
        "visible": [2, 1, 16, 16],
        "directions": [2, 3, 16, 16],
    }
    assert [o.name for o in session.get_outputs()] == ["albedo", "roughness", "metallic", "normal"]
    assert all(isinstance(i.shape[0], str) for i in session.get_inputs())
    assert list(exported.parent.iterdir()) == [exported]


@pytest.mark.parametrize("batch", [1, 3])
def test_an_open_batch_takes_several_samples(batch: int, exported: Path) -> None:
    program = OnnxExporter(Options()).load(exported)
    samples = [example_export_spec(seed=seed).inputs for seed in range(batch)]
    together = {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}
    maps = program(together)
    for index, sample in enumerate(samples):
        for name, value in TinyGenerator(directed=True)(**sample).maps.items():
            torch.testing.assert_close(maps[name][index : index + 1], value, atol=1e-5, rtol=0)


def test_an_open_size_takes_other_views(tmp_path: Path) -> None:
    program = OnnxExporter(Options(size="open")).load(export(tmp_path, Options(size="open")))
    inputs = example_export_spec(size=24).inputs
    for name, value in TinyGenerator(directed=True)(**inputs).maps.items():
        torch.testing.assert_close(program(inputs)[name], value, atol=1e-5, rtol=0)
    with pytest.raises(ExportError, match=r"model\.onnx: does not run on this machine: "):
        program(example_export_spec(size=17).inputs)  # no multiple of the encoder's stride


def test_fixed_sizes_are_kept_to(exported: Path, tmp_path: Path) -> None:
    program = OnnxExporter(Options()).load(exported)
    with pytest.raises(ExportError, match=r"got views 1×2×3×24×24, .* takes views \?×2×3×16×16"):
        program(example_export_spec(size=24).inputs)
    fixed = OnnxExporter(Options()).load(export(tmp_path, Options(batch="fixed")))
    twice = {name: torch.cat((value, value)) for name, value in example_export_spec().inputs.items()}
    with pytest.raises(ExportError, match="takes views 1×2×3×16×16"):
        fixed(twice)


def test_metadata_are_where_viewers_look(exported: Path) -> None:
    model = onnx.load(exported)
    assert "neuropbr.json" in {entry.key for entry in model.metadata_props}


def test_foreign_onnx_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "foreign", [value], [out])
    path = tmp_path / "foreign.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    with pytest.raises(ExportError, match=r"foreign\.onnx: an ONNX file, but .* have no neuropbr\.json"):
        OnnxExporter(Options()).load(path)


@pytest.mark.parametrize("kept", [0, 100, -200])
def test_truncated_file_is_refused(kept: int, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.read_bytes()[:kept])
    with pytest.raises(ExportError, match=r"model\.onnx: (not an|an) ONNX file"):
        OnnxExporter(Options()).load(path)


def test_missing_output_is_named(tmp_path: Path) -> None:
    spec = example_export_spec(("views",), ("albedo", "height"))
    with pytest.raises(ExportError, match="does not predict height; it predicts albedo"):
        OnnxExporter(Options()).export(TinyGenerator(), spec, tmp_path / "model.onnx")


def test_a_flipped_weight_shows(exported: Path, tmp_path: Path) -> None:
    """What verification is for: a file that loads, but is another model."""
    path, model = tmp_path / "flipped.onnx", onnx.load(exported)
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weight.raw_data = (-np.frombuffer(weight.raw_data, np.float32)).tobytes()
    onnx.save(model, path)
    inputs = example_export_spec(seed=2).inputs
    maps = OnnxExporter(Options()).load(path)(inputs)
    expected = TinyGenerator(directed=True)(**inputs).maps
    assert max((maps[name] - value).abs().max() for name, value in expected.items()) > 1e-2
