"""A run's folder on a machine that lacks a distribution which the run was made with."""

import json
from pathlib import Path

import click
import pytest
import small_run

from neuropbr_core.cli import root
from neuropbr_core.cli.faults import Session, exit_code
from neuropbr_core.errors import ExportError
from neuropbr_core.exporting import Verification, compare, open_export, write_record
from neuropbr_core.exporting.record import Record


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose encoder and one of whose exporters are gone."""
    monkeypatch.setenv("NEUROPBR_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    settings = (*small_run.PLAIN, "export={torchscript: {}}")
    run = small_run.save_run(tmp_path / "runs" / "mine", small_run.small_recipe(*settings))
    recipe = run / "recipe.yaml"
    text = recipe.read_text()
    for ours, gone in (("neuropbr:unet", "acme-gone:pyramid"), ("neuropbr:torchscript", "acme-gone:binary")):
        assert ours in text
        text = text.replace(ours, gone)
    recipe.write_text(text)
    component = {"kind": "encoder", "name": "pyramid", "distribution": "acme-gone", "version": "1.2"}
    (run / "provenance.json").write_text(json.dumps({"components": [component]}))
    (run / "exports").mkdir()
    for name, exporter in (("usable.pt", "neuropbr:torchscript"), ("lost.bin", "acme-gone:binary")):
        (run / "exports" / name).write_bytes(b"weights")
        record = Record(exporter, {"exporter_version": "1.2"}, {})
        write_record(run / "exports" / name, record, Verification("fp32", compare({}, {}), "the model", "a test"))
    return run


def failure(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    session = Session()

    def command() -> object:
        return root.main(list(words), obj=session, standalone_mode=False)

    with click.Context(root):
        assert exit_code(session, command) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "--run", "runs/mine", "--data", "data"),
        ("export", "--run", "runs/mine", "--to", "torchscript"),
        ("run", "runs/mine/recipe.yaml", "--run-name", "mine", "--resume"),
        ("distill", "shards", "--teacher", "runs/mine", "--output", "shards"),
    ],
)
def test_what_is_missing_is_named_and_what_works_without(
    words: tuple[str, ...], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The weights name the encoder of this test's machine, so that only the recipe can fail.
    error = failure(words, capsys)
    assert "Traceback" not in error
    assert f"{run.name}: this run was made with acme-gone 1.2, not installed here" in error
    assert "These files of it work without: " in error
    assert "usable.pt" in error
    assert "lost.bin" not in error


def test_nothing_is_said_of_another_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = failure(("run", str(run / "recipe.yaml"), "--run-name", "other", "--resume"), capsys)
    assert "acme-gone:pyramid" in error
    assert "made with" not in error


def test_the_exporter_of_a_file_is_named_with_its_version(run: Path) -> None:
    with pytest.raises(ExportError, match=r"lost\.bin: .* was written by exporter binary of acme-gone 1\.2, .*install"):
        open_export(run / "exports" / "lost.bin")
