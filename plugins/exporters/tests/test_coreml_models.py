"""Real architectures with lightly trained weights as Core ML packages: equal to the model at every precision."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from light_training import lightly_trained, model_spec, real_sample
from torch import Tensor

from neuropbr_core.contracts import ExportSpec
from neuropbr_core.exporting.record import PASS_MARKS, Comparison, compare
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.model import Generator, ModelSpec
from neuropbr_exporters.coreml import Options
from neuropbr_exporters.coreml.exporter import CoreMLExporter
from neuropbr_exporters.coreml.package import Package

SPECS: dict[str, ModelSpec] = {
    "unet+concat": model_spec(
        {"use": "unet", "channels": (8, 16, 32)},
        {"use": "concat"},
        {"decoder": {"channels": (16, 8), "super_resolution": 2, "global_path": True}},
        size=64,
    ),
    "resnet+vit": model_spec(
        {"use": "resnet", "variant": "resnet18"},
        {"use": "vit", "dim": 32, "heads": 4, "depth": 2},
        {"decoder": {"channels": (32, 32, 16, 8)}, "skip_merge": "statistics"},
        size=64,
        aligned=True,
    ),
    "unet+window": model_spec(
        {"use": "unet", "channels": (8, 16, 32)},
        {"use": "window", "dim": 32, "heads": 4, "depth": 2, "window": 8, "pooled": 3},
        {"decoder": {"channels": (16, 8)}},
        # Latents of 18 pixels a side: three windows of six, and cells that cut pixels.
        size=72,
        aligned=True,
    ),
    "everything": model_spec(
        {"use": "unet", "channels": (8, 16), "norm": "group"},
        {"use": "concat"},
        {
            "decoder": {"channels": (8,), "norm": "group"},
            "skip_merge": "statistics",
            "albedo": "residual",
            "view_conditioning": "direction",
            "ratio_images": True,
        },
        size=32,
        aligned=True,
    ),
}


@cache
def trained(name: str) -> Generator:
    return lightly_trained(SPECS[name])


def inputs_of(name: str) -> dict[str, Tensor]:
    """A capture of a material that training did not see, as 8-bit images hold it."""
    inputs, _ = real_sample(SPECS[name], "acg_Tiles032", seed=7)
    return {**inputs, "views": (inputs["views"] * 255).round() / 255}


def export(name: str, folder: Path, **options: Any) -> tuple[CoreMLExporter, Path, str]:
    exporter = CoreMLExporter(Options(**options))
    report = exporter.export(trained(name), ExportSpec(inputs_of(name), MAP_NAMES), folder / "model.mlpackage")
    return exporter, report.path, report.precision


@torch.no_grad()
def distance(name: str, exporter: CoreMLExporter, path: Path) -> dict[str, Comparison]:
    inputs = inputs_of(name)
    return compare(exporter.load(path)(inputs), trained(name)(**inputs).maps)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in SPECS),
        ("everything", {"precision": "fp32"}),
        ("unet+concat", {"precision": "fp32"}),
        ("resnet+vit", {"precision": "mixed"}),
        ("unet+concat", {"palettize": True}),
        ("unet+concat", {"outputs": "images"}),
    ],
)
def test_package_equals_the_model(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    exporter, path, precision = export(name, tmp_path, **options)
    for comparison in distance(name, exporter, path).values():
        assert comparison.psnr >= PASS_MARKS[precision].psnr
        assert comparison.max_difference <= PASS_MARKS[precision].difference


@pytest.mark.parametrize("name", SPECS)
def test_photos_are_normalised_in_float32(name: str, tmp_path: Path) -> None:
    _, path, _ = export(name, tmp_path)
    program = Package(path).program()
    section = SPECS[name].section
    subtracted = [
        program.constants[argument].flatten().tolist()  # type: ignore[union-attr]
        for operation in program.operations
        for argument in operation.reads
        if operation.kind == "sub" and argument in program.constants and operation.outputs[0].dtype == "fp32"
    ]
    assert torch.tensor(section.normalization.mean).tolist() in subtracted
    convolutions = {output.dtype for o in program.operations if o.kind == "conv" for output in o.outputs}
    assert convolutions == {"fp16"}


def test_mixed_precision_keeps_the_first_layers_in_float32(tmp_path: Path) -> None:
    _, path, precision = export("resnet+vit", tmp_path, precision="mixed")
    assert precision == "fp16"  # the pass mark
    convolutions = [o.outputs[0] for o in Package(path).program().operations if o.kind == "conv"]
    encoder = [output for output in convolutions if output.shape[0] == 3]  # one image a view
    fine = [output.dtype for output in encoder if output.shape[-1] >= 64 / 8]
    assert fine == ["fp32"] * 15  # the stem, three stages of two blocks of two, and two shortcuts
    assert {output.dtype for output in convolutions if output.shape[-1] < 64 / 8} == {"fp16"}
    assert convolutions[-1].dtype == "fp16"  # the decoder's, though at full size
