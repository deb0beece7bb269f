"""Exporters whose packages are absent are listed with the install line, and refuse to start with it."""

import json
import sys
from pathlib import Path

import pytest
import small_run
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.errors import ExportError
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


def test_it_is_listed_as_unavailable(absent: str) -> None:
    result = CliRunner().invoke(root, ["list-plugins", "--kind", "exporter", "--check", "--json"])
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert result.exit_code == 0
    assert (rows[absent]["status"], rows[absent]["reason"]) == ("unavailable", ABSENT[absent][1])
    assert rows["torchscript"]["status"] == rows["pt2"]["status"] == "ok"


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
