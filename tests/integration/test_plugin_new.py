"""What `neuropbr plugin new` writes, for every kind: installed by pip, listed, tested by its own tests, and at work."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neuropbr_core.kinds import KINDS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

Call = Callable[..., str]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Runs a Python program in the folder, with what was installed into `site`; returns its output."""

    def run(*arguments: str, cwd: Path = tmp_path) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def neuropbr(call: Call, *arguments: str, **where: Path) -> str:
    return call("-c", "from neuropbr_core.cli import main; main()", *arguments, **where)


def install(call: Call, tmp_path: Path, package: Path) -> None:
    """Install a package as its author would, beside the packages of the test environment and without network."""
    quiet = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index", "--no-deps"]
    call(*quiet, "--no-build-isolation", "--upgrade", "--target", str(tmp_path / "site"), str(package))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_works_at_once(call: Call, tmp_path: Path, kind: str) -> None:
    neuropbr(call, "plugin", "new", kind, "wavelet", "--package", "acme-wavelet")
    package = tmp_path / "acme-wavelet"
    install(call, tmp_path, package)

    rows = json.loads(neuropbr(call, "list-plugins", "--kind", kind, "--check", "--json"))
    row = next(row for row in rows if row["distribution"] == "acme-wavelet")
    assert (row["kind"], row["name"], row["status"]) == (kind, "wavelet", "ready")
    assert row["summary"]

    checks = json.loads(neuropbr(call, "plugin", "check", "acme-wavelet", "--full", "--json"))
    assert [row["passed"] for row in checks] == [True]
    # From the package's folder, which has the configuration of its tests.
    assert "passed" in call("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)
    call("-m", "ruff", "check", "--isolated", "--line-length", "120", "--select", "E,F,W,I", ".", cwd=package)
    call("-m", "ruff", "format", "--isolated", "--line-length", "120", "--check", ".", cwd=package)

    if kind == "packager":
        maps = ROOT / "examples" / "materials" / "acg_Metal053C"
        neuropbr(call, "package", str(maps), "--for", "wavelet", "--output", "out", cwd=package)
        manifest = json.loads((package / "out" / "wavelet" / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["target"] == "acme-wavelet:wavelet"
        return
    if kind == "dataset":
        call("-m", "acme_wavelet.wavelet.example", "data/wavelet", cwd=package)
    neuropbr(call, "run", "recipes/wavelet.yaml", "--run-name", "small", "--device", "cpu", cwd=package)
    provenance = json.loads((package / "runs/small/provenance.json").read_text(encoding="utf-8"))
    used = {(part["kind"], part["distribution"]) for part in provenance["components"]}
    assert (kind, "acme-wavelet") in used
    if kind == "exporter":
        assert list((package / "runs/small/exports").glob("*.verify.json"))
    if kind == "observer":
        assert (package / "runs/small/wavelet.csv").read_text().startswith("epoch,metric,value\n1,")


def test_one_package_holds_a_component_of_every_kind(call: Call, tmp_path: Path) -> None:
    first, *others = KINDS
    neuropbr(call, "plugin", "new", first, f"acme_{first}", "--package", "acme-all")
    for kind in others:
        neuropbr(call, "plugin", "new", kind, f"acme_{kind}", "--into", "acme-all")
    install(call, tmp_path, tmp_path / "acme-all")
    rows = json.loads(neuropbr(call, "list-plugins", "--check", "--json"))
    statuses = {row["kind"]: row["status"] for row in rows if row["distribution"] == "acme-all"}
    assert statuses == dict.fromkeys(KINDS, "ready")


def test_a_component_joins_the_example_package(call: Call, tmp_path: Path) -> None:
    source = ROOT / "examples" / "acme-neuropbr"
    copy = tmp_path / "acme"
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            (copy / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(source)).write_bytes(path.read_bytes())
    neuropbr(call, "plugin", "new", "loss", "wavelet", "--into", "acme")
    install(call, tmp_path, copy)
    rows = json.loads(neuropbr(call, "list-plugins", "--kind", "loss", "--check", "--json"))
    statuses = {row["name"]: row["status"] for row in rows if row["distribution"] == "acme-neuropbr"}
    assert statuses == {"charbonnier": "ready", "wavelet": "ready"}
