"""The Core ML exporter."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neuropbr_core.errors import ExportError, ModelError
from neuropbr_core.testing.exporter import TinyGenerator, example_export_spec
from neuropbr_exporters.coreml import Options, exporter
from neuropbr_exporters.coreml.exporter import CoreMLExporter
from neuropbr_exporters.coreml.interface import METADATA_KEY
from neuropbr_exporters.coreml.package import EvaluatedPackage, NativePackage, Package
from neuropbr_exporters.coreml.suite import CoreMLSuite
from neuropbr_exporters.coreml.toolkit import coremltools, quiet


class TestCoreML(CoreMLSuite):
    use = "coreml"


def export(path: Path, **options: Any) -> Path:
    return CoreMLExporter(Options(**options)).export(TinyGenerator(directed=True), example_export_spec(), path).path


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with metadata of its own; tests read it only."""
    return export(tmp_path_factory.mktemp("coreml") / "model.mlpackage", author="A. Maker", license="CC0-1.0")


def test_what_xcode_shows(package: Path) -> None:
    description = Package(package).spec.description
    assert description.metadata.author == "A. Maker"
    assert description.metadata.license == "CC0-1.0"
    assert "PBR maps" in description.metadata.shortDescription
    inputs = {item.name: item for item in description.input}
    assert list(inputs) == ["view1", "view2", "visible", "directions"]
    image = inputs["view1"].type.imageType
    assert (image.width, image.height) == (16, 16)
    assert image.colorSpace == image.RGB
    assert "photo 1, sRGB-encoded" in inputs["view1"].shortDescription
    assert list(inputs["directions"].type.multiArrayType.shape) == [1, 2, 3, 16, 16]
    outputs = {item.name: item.shortDescription for item in description.output}
    assert outputs["albedo"] == "base colour, sRGB-encoded; srgb, 0 to 1"
    assert outputs["normal"] == "unit tangent-space normal, OpenGL (+Y up); linear, -1 to 1"
    assert Package(package).spec.specificationVersion == 8  # iOS 17


def test_fp16_is_in_the_program_and_fp32_can_be_asked_for(package: Path, tmp_path: Path) -> None:
    def dtypes(path: Path) -> set[str]:
        return {output.dtype for operation in Package(path).program().operations for output in operation.outputs}

    assert dtypes(package) == {"fp32", "fp16"}  # images come as fp32
    assert dtypes(export(tmp_path / "model.mlpackage", precision="fp32")) == {"fp32"}


def test_image_outputs(tmp_path: Path) -> None:
    path = export(tmp_path / "model.mlpackage", outputs="images")
    outputs = {item.name: item.type.imageType for item in Package(path).spec.description.output}
    assert outputs["albedo"].colorSpace == outputs["normal"].colorSpace == outputs["albedo"].RGB
    assert outputs["roughness"].colorSpace == outputs["roughness"].GRAYSCALE
    inputs = example_export_spec(seed=1).inputs
    maps = CoreMLExporter(Options()).load(path)(inputs)
    levels = (maps["normal"] + 1) / 2 * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    truth = TinyGenerator(directed=True)(**inputs).maps["normal"]
    assert (maps["normal"] - truth).abs().max() < 0.03


def test_palettising_stores_indices(tmp_path: Path) -> None:
    class Wide(TinyGenerator):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.encode = nn.Conv2d(3, 8, 17, stride=2, padding=8)
            self.eval()

    spec = example_export_spec(("views",))
    exporter = CoreMLExporter(Options(palettize=True))
    report = exporter.export(Wide(), spec, tmp_path / "model.mlpackage")
    assert report.precision == exporter.precision == "palettised"
    assert "constexpr_lut_to_dense 1" in report.details["operations"]
    maps = exporter.load(report.path)(spec.inputs)
    truth = Wide()(**spec.inputs).maps
    assert all((maps[name] - truth[name]).abs().max() < 0.02 for name in truth)


def test_palettising_without_scikit_learn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "can_palettise", lambda: False)
    with pytest.raises(ExportError, match=r"palettize needs scikit-learn, .* pip install 'neuropbr\[coreml\]'"):
        export(tmp_path / "model.mlpackage", palettize=True)
    assert list(tmp_path.iterdir()) == []


def test_without_coremltools_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    available = CoreMLExporter(Options()).requirements()
    assert not available.ok
    assert available.reason == "coremltools is not installed; pip install 'neuropbr[coreml]'"


def test_importing_and_converting_are_silent(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from neuropbr_core.testing.exporter import TinyGenerator, example_export_spec\n"
        "from neuropbr_exporters.coreml import Options\n"
        "from neuropbr_exporters.coreml.exporter import CoreMLExporter\n"
        "path = Path(sys.argv[1])\n"
        "CoreMLExporter(Options()).export(TinyGenerator(), example_export_spec(('views',)), path)\n"
        "CoreMLExporter(Options()).load(path)\n"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "model.mlpackage")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_noise_is_kept_away_only_inside(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        logging.getLogger("anything").error("unheard")
        print("unseen", file=sys.stderr)
    assert capsys.readouterr().err == ""
    assert logging.root.manager.disable == logging.NOTSET


def test_other_shapes_are_refused(package: Path) -> None:
    program = CoreMLExporter(Options()).load(package)
    with pytest.raises(ExportError, match=r"model\.mlpackage: got views 1×2×3×24×24, .* takes views 1×2×3×16×16, visi"):
        program(example_export_spec(size=24).inputs)


def test_foreign_package_is_refused(package: Path, tmp_path: Path) -> None:
    ct = coremltools()
    spec = Package(package).spec
    del spec.description.metadata.userDefined[METADATA_KEY]
    weights = package / "Data" / "com.apple.CoreML" / "weights"
    with quiet():
        ct.utils.save_spec(spec, str(tmp_path / "foreign.mlpackage"), weights_dir=str(weights))
    with pytest.raises(
        ExportError, match=r"foreign\.mlpackage: .* not one of this exporter: its metadata have no neuro"
    ):
        CoreMLExporter(Options()).load(tmp_path / "foreign.mlpackage")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = export(tmp_path / "model.mlpackage")
    weights = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(ExportError, match=r"model\.mlpackage: not a Core ML package, or damaged \(.+\); export"):
        CoreMLExporter(Options()).load(path)


def test_missing_output_is_named(tmp_path: Path) -> None:
    spec = example_export_spec(("views",), ("albedo", "height"))
    with pytest.raises(ExportError, match="does not predict height; it predicts albedo, roughness, metallic, normal"):
        CoreMLExporter(Options()).export(TinyGenerator(), spec, tmp_path / "model.mlpackage")


def test_the_models_own_refusal_is_passed_on(tmp_path: Path) -> None:
    class Refusing(TinyGenerator):
        def forward(self, *_: object, **__: object) -> None:
            raise ModelError("views are 10×10 pixels")

    with pytest.raises(ModelError, match="10×10"):
        CoreMLExporter(Options()).export(Refusing(), example_export_spec(), tmp_path / "model.mlpackage")


def test_what_core_ml_cannot_represent_is_an_export_error(tmp_path: Path) -> None:
    class Spectral(TinyGenerator):
        def forward(self, views: torch.Tensor, *_: Any) -> Any:
            return super().forward(views + torch.linalg.svdvals(views)[..., None])

    with pytest.raises(ExportError, match=r"coreml: the model cannot be exported: .*svd"):
        CoreMLExporter(Options()).export(Spectral(), example_export_spec(("views",)), tmp_path / "model.mlpackage")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_an_export_error(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("a file where the folder should be")
    with pytest.raises(ExportError, match=r"model\.mlpackage: could not be written"):
        export(tmp_path / "deep" / "model.mlpackage")


def test_report_can_be_written_as_json(package: Path) -> None:
    report = json.loads(json.dumps(CoreMLExporter(Options()).report(package)))
    assert report["operations"]["conv"] == 5
    assert {finding["limit"] for finding in report["findings"]} == {"float32", "rank"}
    assert "Apple" in report["limits"]["rank"]["seen"]


def test_on_macos_core_ml_itself_runs_it(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The native runtime is fed PIL images and arrays, and gives arrays and images back; a stand-in plays it here."""
    expected = EvaluatedPackage(Package(package))(example_export_spec(seed=1).inputs)
    native_inputs: dict[str, Any] = {}

    class Model:
        def __init__(self, path: str, compute_units: Any) -> None:
            assert (path, compute_units.name) == (str(package), "ALL")

        def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
            native_inputs.update(inputs)
            return {name: value.numpy() for name, value in expected.items()}

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(coremltools().models, "MLModel", Model)
    program = CoreMLExporter(Options()).load(package)
    assert isinstance(program, NativePackage)
    inputs = example_export_spec(seed=1).inputs
    maps = program(inputs)
    assert all(torch.equal(maps[name], expected[name]) for name in expected)
    assert native_inputs["view2"].mode == "RGB"
    levels = torch.tensor(list(native_inputs["view2"].get_flattened_data())).T.reshape(3, 16, 16)
    assert torch.equal(levels, (inputs["views"][0, 1] * 255).round())
    assert native_inputs["visible"].shape == (1, 2, 1, 16, 16)
