"""`neuropbr export`, `neuropbr verify` and `neuropbr infer --model`, on TorchScript files of an untrained run."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_run
import torch
from click.testing import CliRunner, Result
from PIL import Image

import neuropbr_core
from neuropbr_core.cli import root
from neuropbr_core.contracts import ExportReport
from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.inference.predict import write_maps


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = small_run.small_recipe("export.phone={use: torchscript, optimize: true, resolution: 48}")
    return small_run.save_run(tmp_path_factory.mktemp("runs") / "small", recipe)


@pytest.fixture
def views(pool: Path) -> Path:
    return pool / "input/clean/sample_0002"


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, f"{result.output}{result.exception!r}"
    return result.output


def refused(*arguments: str | Path) -> str:
    result = call(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, NeuroPBRError), repr(result.exception)
    return str(result.exception)


def test_export_writes_a_verified_file_and_what_made_it(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    said = done("export", "--run", run, "--to", "torchscript", "--option", "optimize=true", "--output", out)
    assert f"Exported {out / 'torchscript.pt'} (fp32, verified on a rendered capture: every map at least" in said
    assert {path.name for path in out.iterdir()} == {"torchscript.pt", "torchscript.pt.verify.json"}
    record = json.loads((out / "torchscript.pt.verify.json").read_text(encoding="utf-8"))
    assert record["passed"] is True
    assert record["exporter"] == "neuropbr:torchscript"
    metadata = record["metadata"]
    assert (metadata["run"], metadata["recipe"], metadata["checkpoint"]) == ("small", "quickstart", "epoch_0001")
    assert json.loads(metadata["options"])["optimize"] is True
    assert json.loads(metadata["signature"])["image_size"] == 32


def test_entries_of_the_runs_recipe_are_named_too(run: Path, tmp_path: Path) -> None:
    said = done("export", "--run", run, "--to", "phone, torchscript", "--option", "phone.views=2", "--output", tmp_path)
    assert "phone-48px-2views.pt" in said
    assert (tmp_path / "torchscript.pt").is_file()
    record = json.loads((tmp_path / "phone-48px-2views.pt.verify.json").read_text(encoding="utf-8"))
    assert record["reference"] == "the model with input of 48×48 pixels instead of 32, 2 views instead of 3"
    assert record["metadata"]["changes"] == "input of 48×48 pixels instead of 32; 2 views instead of 3"
    assert json.loads(record["metadata"]["options"])["optimize"] is True


def test_the_default_folder_is_the_runs(run: Path) -> None:
    done("export", "--run", run, "--to", "torchscript")
    assert (run / "exports" / "torchscript.pt").is_file()
    checkpoint = run / "checkpoints" / "epoch_0001"
    assert str(run / "exports" / "torchscript-48px.pt") in done(
        "export", "--run", checkpoint, "--to", "torchscript", "--resolution", "48"
    )


def test_a_checkpoint_that_is_in_no_run_needs_a_folder(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "checkpoints" / "epoch_0001", tmp_path / "loose")
    result = call("export", "--run", tmp_path / "loose", "--to", "torchscript")
    assert result.exit_code == 2
    assert "--output DIR" in result.output
    done("export", "--run", tmp_path / "loose", "--to", "torchscript", "--output", tmp_path)


def test_mistakes_are_placed_and_answered_all_at_once(run: Path, tmp_path: Path) -> None:
    options = ("--option", "geometri=nominal", "--option", "torchscript.optimize=maybe", "--resolution", "x")
    lines = refused(
        "export", "--run", run, "--to", "torchscript,torchscrpt", *options, "--output", tmp_path
    ).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["--option:1:1", "--option:3:1", "--resolution:4:1", "--to:1:1"]
    assert "did you mean `geometry`? (from `--option geometri=nominal`)" in lines[0]
    assert 'found "maybe"; allowed: true or false (from `--option torchscript.optimize=maybe`)' in lines[1]
    assert "an integer from 16 to 8192 or null (from `--resolution x`)" in lines[2]
    assert "exporter/torchscrpt" in lines[3]
    assert "torchscript" in lines[3]
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_the_model_cannot_take_are_refused(run: Path, tmp_path: Path) -> None:
    said = refused("export", "--run", run, "--to", "torchscript", "--resolution", "49", "--output", tmp_path)
    assert "export.torchscript.resolution: found 49" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overrides", [(), small_run.ALIGNED, small_run.PLAIN], ids=["directed", "aligned", "plain"])
def test_infer_gives_the_models_maps_without_the_run(overrides: tuple[str, ...], views: Path, tmp_path: Path) -> None:
    run = small_run.save_run(tmp_path / "run", small_run.small_recipe(*overrides))
    done("export", "--run", run, "--to", "torchscript", "--output", tmp_path)
    expected = neuropbr_core.load_generator(run).predict(neuropbr_core.read_views(views))
    write_maps(expected, tmp_path / "expected")
    shutil.rmtree(run)
    (tmp_path / "torchscript.pt.verify.json").unlink()
    done("infer", "--model", tmp_path / "torchscript.pt", "--input", views, "--output", tmp_path / "maps")
    for name in expected:
        found, truth = (np.asarray(Image.open(tmp_path / d / f"{name}.png"), int) for d in ("maps", "expected"))
        assert np.abs(found - truth).max() <= 1, name


def test_infer_runs_nominal_geometry_and_resamples(run: Path, views: Path, tmp_path: Path) -> None:
    done("export", "--run", run, "--to", "torchscript", "--option", "geometry=nominal", "--output", tmp_path)
    file = tmp_path / "torchscript-nominal.pt"
    done("infer", "--model", file, "--input", views, "--output", tmp_path / "maps", "--size", "80")
    with Image.open(tmp_path / "maps" / "normal.png") as image:
        assert image.size == (80, 80)
    said = done("verify", file, "--run", run, "--input", views)
    assert "against the model with nominal directions built in, everything visible, on views of" in said


def test_infer_takes_a_run_or_a_file(run: Path, views: Path, tmp_path: Path) -> None:
    result = call("infer", "--run", run, "--model", run, "--input", views, "--output", tmp_path)
    assert result.exit_code == 2
    assert "give either --run DIR or --model NAME" in result.output


def test_infer_says_what_is_wrong_with_the_views_or_the_file(run: Path, views: Path, tmp_path: Path) -> None:
    done("export", "--run", run, "--to", "torchscript", "--option", "views=5", "--output", tmp_path)
    file = tmp_path / "torchscript-5views.pt"
    use = ("--input", views, "--output", tmp_path / "maps")
    assert "has 3 views, but" in refused("infer", "--model", file, *use)
    assert "there is no such file" in refused("infer", "--model", tmp_path / "gone.pt", *use)
    (tmp_path / "model.xyz").write_bytes(b"?")
    said = refused("infer", "--model", tmp_path / "model.xyz", *use)
    assert "no installed exporter writes files that end with .xyz; name the file's exporter with --exporter" in said
    file.write_bytes(file.read_bytes()[:1000])
    assert "damaged" in refused("infer", "--model", file, *use)
    assert not (tmp_path / "maps").exists()


def test_verify_prints_a_table_and_writes_it(run: Path, views: Path, tmp_path: Path) -> None:
    done("export", "--run", run, "--to", "torchscript", "--output", tmp_path)
    file = tmp_path / "torchscript.pt"
    (tmp_path / "torchscript.pt.verify.json").unlink()
    said = done("verify", file, "--run", run, "--input", views)
    for word in ("MAP", "LARGEST", "MEAN", "PSNR", "albedo", "normal", "passed: fp32 needs at least 90 dB"):
        assert word in said
    record = json.loads((tmp_path / "torchscript.pt.verify.json").read_text(encoding="utf-8"))
    assert record["passed"] is True
    assert record["views"] == f"views of {views}"
    assert set(record["maps"]) == {"albedo", "roughness", "metallic", "normal"}


def test_verify_fails_with_the_reason(run: Path, views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done("export", "--run", run, "--to", "torchscript", "--output", tmp_path)
    from neuropbr_exporters.torchscript.exporter import TorchScriptExporter

    load = TorchScriptExporter.load

    def darker(self: TorchScriptExporter, path: Path) -> object:
        program = load(self, path)
        return lambda inputs: {name: value * 0.9 for name, value in program(inputs).items()}

    monkeypatch.setattr(TorchScriptExporter, "load", darker)
    result = call("verify", tmp_path / "torchscript.pt", "--run", run, "--input", views)
    assert result.exit_code == 1
    assert "FAILED: fp32" in result.output
    assert "failed: the exported normal differs from the model's: " in result.output
    assert json.loads((tmp_path / "torchscript.pt.verify.json").read_text(encoding="utf-8"))["passed"] is False
    said = refused("export", "--run", run, "--to", "torchscript", "--output", tmp_path / "new")
    assert "differs from the model's" in said
    assert said.endswith("the file was not kept")
    assert list((tmp_path / "new").iterdir()) == []


def test_one_target_that_fails_does_not_keep_the_others(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuropbr_exporters.torchscript.exporter import TorchScriptExporter

    load = TorchScriptExporter.load

    def darker(self: TorchScriptExporter, path: Path) -> object:
        program, share = load(self, path), 0.9 if path.name.startswith("phone") else 1.0
        return lambda inputs: {name: value * share for name, value in program(inputs).items()}

    monkeypatch.setattr(TorchScriptExporter, "load", darker)
    monkeypatch.setattr(TorchScriptExporter, "trace", lambda *_: ["a table", "first difference: conv_3 (conv)"])
    said = refused("export", "--run", run, "--to", "phone,torchscript", "--output", tmp_path)
    assert said.startswith("export.phone: the exported ")
    assert "first difference: conv_3 (conv); written by exporter/torchscript of neuropbr" in said, (
        "no `verify --trace` can tell afterwards"
    )
    assert "torchscript:" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"torchscript.pt", "torchscript.pt.verify.json"}


def test_the_pass_mark_is_that_of_the_files_own_options(
    run: Path, views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without the record beside the file, whose options would say it too."""
    from neuropbr_exporters.torchscript.exporter import TorchScriptExporter

    init = TorchScriptExporter.__init__

    def half(self: TorchScriptExporter, options: Any) -> None:
        init(self, options)
        self.precision = "palettised" if options.optimize else "fp32"

    monkeypatch.setattr(TorchScriptExporter, "__init__", half)
    monkeypatch.setattr(TorchScriptExporter, "export", _reporting(TorchScriptExporter.export))
    done("export", "--run", run, "--to", "torchscript", "--option", "optimize=true", "--output", tmp_path)
    (tmp_path / "torchscript.pt.verify.json").unlink()
    said = done("verify", tmp_path / "torchscript.pt", "--run", run, "--input", views)
    assert "passed: palettised needs at least 45 dB" in said


def _reporting(export: Callable[..., ExportReport]) -> Callable[..., ExportReport]:
    return lambda self, *given: replace(export(self, *given), precision=self.precision)


KILLED = """
import os, signal, sys
from neuropbr_core.cli import main
from neuropbr_exporters.torchscript.exporter import TorchScriptExporter
TorchScriptExporter.load = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def test_a_killed_export_leaves_no_file_of_that_name(run: Path, tmp_path: Path) -> None:
    arguments = ["export", "--run", str(run), "--to", "torchscript", "--output", str(tmp_path)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".writing-torchscript"]
    done(*arguments)
    assert {path.name for path in tmp_path.iterdir()} == {"torchscript.pt", "torchscript.pt.verify.json"}


def test_a_record_that_cannot_be_written_keeps_the_earlier_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("export", "--run", run, "--to", "torchscript", "--output", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neuropbr_core.exporting.record.write_json", full)
    said = refused("export", "--run", run, "--to", "torchscript", "--option", "optimize=true", "--output", tmp_path)
    assert "torchscript.pt: could not be written ([Errno 28] No space left on device)" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_verify_with_another_run_is_refused(run: Path, tmp_path: Path) -> None:
    done("export", "--run", run, "--to", "torchscript", "--output", tmp_path)
    other = small_run.save_run(tmp_path / "other", small_run.small_recipe(), seed=1)
    said = refused("verify", tmp_path / "torchscript.pt", "--run", other)
    assert "was made from epoch_0001 of run small, whose weights are others than those in" in said


def test_formats_without_a_trace_say_so(run: Path, views: Path, tmp_path: Path) -> None:
    done("export", "--run", run, "--to", "torchscript", "--output", tmp_path)
    said = refused("verify", tmp_path / "torchscript.pt", "--run", run, "--input", views, "--trace")
    assert "cannot be traced operator by operator" in said
    assert "no report for this format" in done(
        "verify", tmp_path / "torchscript.pt", "--run", run, "--input", views, "--report"
    )


def test_the_api_loads_files_too(run: Path, views: Path, tmp_path: Path) -> None:
    done("export", "--run", run, "--to", "torchscript", "--output", tmp_path)
    exported = neuropbr_core.load_exported(tmp_path / "torchscript.pt")
    found = exported.predict(neuropbr_core.read_views(views))
    expected = neuropbr_core.load_generator(run).predict(neuropbr_core.read_views(views))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=0)
