"""Every shipped architecture, made small, through every exporter of this family: exported, verified, opened again."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import small_run
import torch
from light_training import lightly_trained

from neuropbr_core.errors import ExportError
from neuropbr_core.exporting import (
    Signature,
    Subject,
    create_exporter,
    export_subject,
    make_subject,
    open_export,
    random_inputs,
)
from neuropbr_core.inference import load_generator
from neuropbr_core.inference.verification import RealViews, real_views
from neuropbr_core.kinds import KINDS
from neuropbr_core.model import ModelSpec
from neuropbr_core.recipe import load_entries

TARGETS = {
    "coreml": ("coreml",),
    "executorch": ("executorch",),
    "onnx": ("onnx",),
    "pt2": ("pt2",),
    "torchscript": ("torchscript",),
}
"""Exporters, and options of theirs."""
SMALLER = {"palettised": ("coreml", "palettize=true"), "executorch for Core ML": ("executorch", "backend=coreml")}
# What makes numbers smaller looks at weights, and not at networks; in a student it takes minutes.
SMALLER_MODELS = (("palettised", "directed"), ("executorch for Core ML", "directed"))
TOLERANCE = {"fp32": 1e-4, "fp16": 1 / 255, "palettised": 0.05}

TINY = ("data.image_size=32", "data.output_size=32", "data.root=null")
STUDENT = (*TINY, "model.encoder.variant=small")
MODELS = {
    "directed": ("neuropbr:quickstart", small_run.SMALL),
    "aligned": ("neuropbr:quickstart", (*small_run.SMALL, *small_run.ALIGNED)),
    "unprofiled": ("neuropbr:quickstart", (*small_run.SMALL, "model.reflectance_profile=false")),
    "teacher": (
        "neuropbr:teacher_default",
        (*TINY, "model.encoder.variant=resnet18", "model.fusion={dim: 32, heads: 2, depth: 1}"),
    ),
    "student_vit": (
        "neuropbr:student_mobilenetv3_512",
        (*STUDENT, "data.output_size=64", "model.fusion={dim: 32, heads: 2}"),
    ),
    "windowed": (
        "neuropbr:quickstart",
        (
            *small_run.SMALL,
            *small_run.ALIGNED,
            "model.reflectance_profile=false",
            "model.fusion={use: window, dim: 32, heads: 2, depth: 2, window: 3, pooled: 3}",
        ),
    ),
    "student_plk": (
        "neuropbr:student_convattn_1024",
        (*STUDENT, "data.output_size=64", "model.decoder.super_resolution=2", "model.fusion.channels=16"),
    ),
}


Runs = Callable[[str], Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Makes the run of a model when a test asks for it first; its weights are trained for a moment."""
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def make(name: str) -> Path:
        base, overrides = MODELS[name]
        recipe = small_run.small_recipe(*overrides, base=base)
        trained = lightly_trained(ModelSpec.from_recipe(recipe), steps=10)
        return small_run.save_run(folder / name, recipe, trained=trained)

    return make


@cache
def capture() -> RealViews:
    """A capture of a shipped material, with cameras."""
    signature = Signature(3, 64, 64, 64, "recorded", directed=True)
    return real_views(None, None, signature)


def export(run: Path, target: tuple[str, ...], folder: Path, *options: str) -> tuple[Path, Subject]:
    """Export as `neuropbr export` does; raises where verification fails."""
    exporter = target[0]
    overrides = [f"export.{exporter}.{option}" for option in (*target[1:], *options)]
    part = load_entries(KINDS["exporter"], {exporter: f"--to {exporter}"}, overrides)[exporter]
    loaded = load_generator(run)
    subject = make_subject(loaded.generator, loaded.spec, part.entry)
    views = capture().prepare(subject.signature)
    result = export_subject(subject, part, create_exporter(part), folder, origin={"run": run.name}, views=views)
    return result.path, subject


def check_again(path: Path, subject: Subject) -> None:
    """The file alone, without its record, gives the model's maps for other views."""
    path.with_name(path.name + ".verify.json").unlink()
    opened = open_export(path)
    assert opened.signature == subject.signature
    inputs = capture().prepare(subject.signature).inputs
    views = (inputs["views"] * 255).round().flip(1, -1) / 255  # as 8-bit images hold them
    tolerance = TOLERANCE[opened.exporter.precision]
    if path.suffix == ".pte" and opened.exporter.precision == "fp16":
        # Of a stranger, a package of Core ML is refused whatever is in it.
        with pytest.raises(ExportError, match="holds a package of Core ML"):
            opened.exporter.load_untrusted(path)
        program = opened.exporter.load(path)
    else:
        # As a stranger's file, which is looked through first: every shipped architecture passes.
        program = opened.exporter.load_untrusted(path)
    maps = program({**inputs, "views": views})
    for name, value in subject.predict({**inputs, "views": views}).items():
        torch.testing.assert_close(maps[name], value, atol=tolerance, rtol=0)


@pytest.mark.parametrize("target", TARGETS)
def test_quickstart(target: str, runs: Runs, tmp_path: Path) -> None:
    check_again(*export(runs("directed"), TARGETS[target], tmp_path))


@pytest.mark.parametrize("target", ["coreml", "onnx", "torchscript"])
def test_student_on_phones(target: str, runs: Runs, tmp_path: Path) -> None:
    check_again(*export(runs("student_vit"), TARGETS[target], tmp_path))


# `directed` without its profile is exported by `test_open_sizes`.
@pytest.mark.slow
@pytest.mark.parametrize("model", ["aligned", "teacher", "student_plk", "windowed"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_other_models(model: str, target: str, runs: Runs, tmp_path: Path) -> None:
    check_again(*export(runs(model), TARGETS[target], tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("target", "model"), SMALLER_MODELS)
def test_smaller_numbers(target: str, model: str, runs: Runs, tmp_path: Path) -> None:
    """The mark that applies is the precision's, also when only the file itself says which it is."""
    path, subject = export(runs(model), SMALLER[target], tmp_path)
    check_again(path, subject)
    assert open_export(path).exporter.precision == {"palettised": "palettised"}.get(target, "fp16")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_other_cameras(target: str, runs: Runs, tmp_path: Path) -> None:
    options = ("geometry=nominal", "views=2", "resolution=48")
    path, subject = export(runs("directed"), TARGETS[target], tmp_path, *options)
    check_again(path, subject)
    assert path.name.partition(".")[0] == f"{target}-48px-2views-nominal"


# `super_resolution: bypass` removes layers before any exporter sees the model, so that three formats are enough.
@pytest.mark.slow
@pytest.mark.parametrize("target", ["coreml", "onnx", "torchscript"])
def test_no_super_resolution(target: str, runs: Runs, tmp_path: Path) -> None:
    options = ("super_resolution=bypass", "resolution=64")
    path, subject = export(runs("student_vit"), TARGETS[target], tmp_path, *options)
    check_again(path, subject)
    assert path.name.partition(".")[0] == f"{target}-64px-no-sr"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "exporter"),
    [("unprofiled", "onnx"), ("teacher", "onnx"), ("student_plk", "onnx"), ("unprofiled", "pt2"), ("teacher", "pt2")],
)
def test_open_sizes(exporter: str, model: str, runs: Runs, tmp_path: Path) -> None:
    path, subject = export(runs(model), TARGETS[exporter], tmp_path, "size=open", "resolution=64")
    larger = make_larger(subject)
    maps = open_export(path).program(larger)
    for name, value in subject.predict(larger).items():
        torch.testing.assert_close(maps[name], value, atol=1e-4, rtol=0)


@pytest.mark.parametrize("exporter", ["onnx", "pt2"])
def test_a_model_that_depends_on_its_size_cannot_leave_it_open(exporter: str, runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"size: open: what this model computes .* write size: fixed"):
        export(runs("directed"), TARGETS[exporter], tmp_path, "size=open", "resolution=64")
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("exporter", ["onnx", "pt2"])
def test_windows_are_cut_for_one_size(exporter: str, runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"size: open: the fusion block `window` cuts the frame .* write size: fixed"):
        export(runs("windowed"), TARGETS[exporter], tmp_path, "size=open", "resolution=64")
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def make_larger(subject: Subject) -> dict[str, torch.Tensor]:
    """Inputs of twice the side, two samples of them."""
    from dataclasses import replace

    signature = replace(subject.signature, image_size=2 * subject.signature.image_size)
    samples = [random_inputs(signature, seed) for seed in (5, 6)]
    return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}
