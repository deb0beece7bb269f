"""Exporters whose packages are absent are listed with the install line, and refuse to start with it."""

import json
import sys
from pathlib import Path

import pytest
import small_run
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.errors import ExportError
from neuropbr_core.registry.catalog import Registry, check_source, packages_needed
from neuropbr_exporters.graphs import installed

ABSENT = {
    "executorch": (("executorch",), "executorch is not installed; pip install 'neuropbr[executorch]'"),
    "onnx": (
        ("onnx", "onnxruntime"),
        "onnx and onnxruntime are not installed; pip install 'neuropbr[onnx]'",
    ),
}


@pytest.fixture(params=ABSENT)
def absent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An exporter whose packages cannot be imported."""
    for package in ABSENT[request.param][0]:
        monkeypatch.setitem(sys.modules, package, None)
    return str(request.param)


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_the_listing_tells_what_to_install(absent: str, options: list[str]) -> None:
    result = CliRunner().invoke(root, ["list-plugins", "--kind", "exporter", "--json", *options])
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert result.exit_code == 0
    assert (rows[absent]["status"], rows[absent]["reason"]) == (f"needs neuropbr[{absent}]", ABSENT[absent][1])
    assert rows["torchscript"]["status"] == rows["pt2"]["status"] == "ready"


def test_export_and_infer_say_what_to_install(absent: str, tmp_path: Path) -> None:
    run = small_run.save_run(tmp_path / "run", small_run.small_recipe())
    arguments = ["export", "--run", str(run), "--to", absent, "--output", str(tmp_path / "out")]
    error = CliRunner().invoke(root, arguments).exception
    assert isinstance(error, ExportError)
    assert str(error) == f"export.{absent}: exporter neuropbr:{absent} cannot work here: {ABSENT[absent][1]}"
    assert not (tmp_path / "out").exists()
    file = tmp_path / "model.bin"
    file.write_bytes(b"?")
    arguments = ["infer", "--model", str(file), "--exporter", absent, "--input", str(tmp_path), "--output", "maps"]
    assert ABSENT[absent][1] in str(CliRunner().invoke(root, arguments).exception)


def test_nothing_is_missing_here() -> None:
    assert installed("onnx", "onnx", "onnxscript", "onnxruntime").ok


def test_sources_state_what_the_exporters_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each exporter as `--check` asks it, on a machine without any optional package.
    registry = Registry()
    names = [entry for entry in registry.entries("exporter") if entry.distribution == "neuropbr"]
    for entry in names:
        thin = check_source(entry)
        assert thin is not None
        for module in dict(thin.requires or {}):  # type: ignore[call-overload]
            monkeypatch.setitem(sys.modules, module, None)
    for entry in names:
        exporter = registry.create("exporter", entry.name, registry.options("exporter", entry.name)())
        assert exporter.requirements().ok == (not packages_needed(check_source(entry))), entry
