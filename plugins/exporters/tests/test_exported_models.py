"""Every shipped architecture, made small, through every exporter of this family: exported, verified, opened again."""

from pathlib import Path

import pytest
import small_run
import torch

from neuropbr_core.exporting import (
    Subject,
    Views,
    create_exporter,
    export_subject,
    make_subject,
    open_export,
    random_inputs,
)
from neuropbr_core.inference import load_generator
from neuropbr_core.kinds import KINDS
from neuropbr_core.recipe.entries import load_entries
from neuropbr_core.registry import default_registry

EXPORTERS = ("executorch", "onnx", "pt2", "torchscript")

TINY = ("data.image_size=32", "data.output_size=32", "data.root=null")
STUDENT = (*TINY, "model.encoder.variant=small")
MODELS = {
    "directed": ("neuropbr:quickstart", small_run.SMALL),
    "aligned": ("neuropbr:quickstart", (*small_run.SMALL, *small_run.ALIGNED)),
    "profile": ("neuropbr:quickstart", (*small_run.SMALL, "model.reflectance_profile=true")),
    "teacher": (
        "neuropbr:teacher_default",
        (*TINY, "model.encoder.variant=resnet18", "model.fusion={dim: 32, heads: 2, depth: 1}"),
    ),
    "student_vit": (
        "neuropbr:student_mobilenetv3_512",
        (*STUDENT, "data.output_size=64", "model.fusion={dim: 32, heads: 2}"),
    ),
    "student_plk": ("neuropbr:student_convattn_1024", (*STUDENT, "model.fusion.channels=16")),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, (base, overrides) in MODELS.items():
        small_run.save_run(folder / name, small_run.small_recipe(*overrides, base=base))
    return folder


def export(run: Path, exporter: str, folder: Path, *options: str) -> tuple[Path, Subject]:
    """Export as `neuropbr export` does; raises where verification fails."""
    registry = default_registry()
    overrides = [f"export.{exporter}.{option}" for option in options]
    part = load_entries(KINDS["exporter"], {exporter: f"--to {exporter}"}, overrides, registry)[exporter]
    loaded = load_generator(run)
    subject = make_subject(loaded.generator, loaded.spec, part.entry)
    views = Views(random_inputs(subject.signature, seed=3), "random numbers")
    made = export_subject(subject, part, create_exporter(part, registry), folder, origin={"run": run.name}, views=views)
    assert made.verification.worst >= 90
    return made.path, subject


def check_again(path: Path, subject: Subject) -> None:
    """The file alone, without its record, gives the model's maps."""
    path.with_name(path.name + ".verify.json").unlink()
    opened = open_export(path)
    assert opened.signature == subject.signature
    inputs = random_inputs(subject.signature, seed=4)
    found = opened.program(inputs)
    for name, value in subject.predict(inputs).items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=0)


@pytest.mark.parametrize("model", ["directed", "student_vit"])
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_quickstart_and_student(model: str, exporter: str, runs: Path, tmp_path: Path) -> None:
    check_again(*export(runs / model, exporter, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["aligned", "profile", "teacher", "student_plk"])
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_other_models(model: str, exporter: str, runs: Path, tmp_path: Path) -> None:
    check_again(*export(runs / model, exporter, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_changed_models(exporter: str, runs: Path, tmp_path: Path) -> None:
    check_again(*export(runs / "directed", exporter, tmp_path, "geometry=nominal", "views=2", "resolution=48"))
    check_again(*export(runs / "student_vit", exporter, tmp_path, "super_resolution=bypass", "resolution=64"))
    names = {path.name.partition(".")[0] for path in tmp_path.iterdir()}
    assert names == {f"{exporter}-48px-2views-nominal", f"{exporter}-64px-no-sr"}


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["onnx", "pt2"])
@pytest.mark.parametrize("model", ["directed", "teacher", "student_vit", "student_plk"])
def test_open_sizes(exporter: str, model: str, runs: Path, tmp_path: Path) -> None:
    path, subject = export(runs / model, exporter, tmp_path, "size=open", "resolution=64")
    larger = make_larger(subject)
    found = open_export(path).program(larger)
    for name, value in subject.predict(larger).items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=0)


def make_larger(subject: Subject) -> dict[str, torch.Tensor]:
    """Inputs of twice the side, two samples of them."""
    from dataclasses import replace

    signature = replace(subject.signature, image_size=2 * subject.signature.image_size)
    samples = [random_inputs(signature, seed) for seed in (5, 6)]
    return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}
