"""`neuropbr doctor`."""

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.registry import set_default_registry

LOSSES = "neuropbr.losses"
BROKEN = "raise RuntimeError('see /home/maria/secret/place/key.txt')"
SLOW = """
    import time
    time.sleep(0.3)
"""
FAST = '"""Nothing."""\nNEUROPBR_API = 1\n'


def diagnose(*arguments: str, before: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    set_default_registry(None)
    result = CliRunner().invoke(root, [*before, "doctor", "--json", *arguments])
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture(autouse=True)
def _own_components_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves out the first-party components, whose loading has tests of its own and takes seconds."""
    from neuropbr_core.registry import catalog

    scan = catalog.scan
    monkeypatch.setattr(catalog, "scan", lambda: tuple(entry for entry in scan() if entry.distribution != "neuropbr"))
    yield
    set_default_registry(None)  # other tests need them


def test_a_sound_environment() -> None:
    code, diagnosis = diagnose()
    assert (code, diagnosis["ok"], diagnosis["problems"]) == (0, True, [])
    assert diagnosis["environment"]["Python"].startswith("3.")
    assert diagnosis["devices"][-1]["name"] == "cpu"
    assert {"torch", "pluggy"} <= {package["name"] for package in diagnosis["packages"]}
    extras = {extra["name"]: extra for extra in diagnosis["extras"]}
    assert extras["onnx"]["install"] == "pip install 'neuropbr[onnx]'"
    assert {package["name"] for package in extras["onnx"]["packages"]} == {"onnx", "onnxruntime", "onnxscript"}
    assert "dev" not in extras


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = [
        "numpy>=999",
        "no-such-package>=1",
        "other; python_version < '3'",
        "broken requirement",
        "no-such-tool>=2; extra == 'tools'",
        "numpy; extra == 'numbers'",
    ]
    version = metadata.version("numpy")
    monkeypatch.setattr(metadata, "requires", lambda _: requires)
    names = metadata.metadata("neuropbr")
    del names["Provides-Extra"]
    for extra in ("tools", "numbers"):
        names["Provides-Extra"] = extra
    monkeypatch.setattr(metadata, "metadata", lambda _: names)
    code, diagnosis = diagnose()
    assert code == 1
    assert diagnosis["problems"] == [
        "package no-such-package is not installed, but neuropbr needs >=1: pip install 'no-such-package>=1'",
        f"package numpy is installed as {version}, but neuropbr needs >=999: pip install 'numpy>=999'",
    ]
    assert {extra["name"]: extra["ok"] for extra in diagnosis["extras"]} == {"tools": False, "numbers": True}


def test_components_that_are_broken_blocked_or_collide(declare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/maria")
    declare("acme-broken", LOSSES, "one = nbr_broken", BROKEN)
    declare("acme-blocked", LOSSES, "two = nbr_two", FAST)
    declare("acme-left", LOSSES, "three = nbr_left", FAST, at="left")
    declare("acme-right", LOSSES, "three = nbr_right", FAST, at="right")
    code, diagnosis = diagnose(before=("--block", "two", "--block", "nothing"))
    assert code == 1
    statuses = {(row["distribution"], row["status"]) for row in diagnosis["components"]}
    assert ("acme-broken", "broken") in statuses
    assert ("acme-blocked", "blocked") in statuses
    assert any("/home/maria/secret/place/key.txt" in problem for problem in diagnosis["problems"])
    notes = "\n".join(diagnosis["notes"])
    assert "loss/acme-blocked:two blocked: 'two' in --block" in notes
    assert "the block 'nothing' in --block matches no installed component" in notes
    report = diagnosis["report"]
    assert "RuntimeError: see …/place/key.txt" in report
    assert "maria" not in report
    assert "secret" not in report


def test_slow_imports_are_measured(declare: Any) -> None:
    declare("acme-slow", LOSSES, "slow = nbr_slow", SLOW)
    declare("acme-fast", LOSSES, "fast = nbr_fast", FAST)
    declare("acme-broken", LOSSES, "broken = nbr_none", BROKEN)
    _, diagnosis = diagnose("--trace-plugins")
    times = {row["name"]: row["seconds"] for row in diagnosis["imports"]}
    assert times["acme-broken:broken"] is None
    assert times["acme-slow:slow"] >= 0.3
    assert times["acme-fast:fast"] < times["acme-slow:slow"]
    assert any(note.startswith("loss/acme-slow:slow takes 0.") for note in diagnosis["notes"])


def test_the_text_ends_with_a_block_to_paste(tmp_path: Path) -> None:
    result = CliRunner().invoke(root, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "No problems." in result.stdout
    _, block = result.stdout.split("```text\n")
    assert block.startswith("neuropbr: ")
    assert block.endswith("```\n")
    assert str(Path.home()) not in block or str(Path.home()) == "/"
