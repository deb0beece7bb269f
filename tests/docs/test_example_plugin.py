"""The example of a third-party package: installed, listed, tested by its own suite, trained with its recipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "acme-neuropbr"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with which the example package is importable."""
    target = tmp_path_factory.mktemp("acme")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*command, str(target), str(EXAMPLE)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def neuropbr(environment: dict[str, str], cwd: Path, *arguments: str) -> str:
    command = [sys.executable, "-c", "from neuropbr_core.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_listed_beside_the_first_party_components(environment: dict[str, str], tmp_path: Path) -> None:
    rows = json.loads(neuropbr(environment, tmp_path, "list-plugins", "--check", "--json"))
    acme = {(row["kind"], row["name"]): row for row in rows if row["distribution"] == "acme-neuropbr"}
    assert set(acme) == {("encoder", "convnext"), ("loss", "charbonnier"), ("packager", "threejs")}
    assert {row["status"] for row in acme.values()} == {"ready"}
    assert acme["encoder", "convnext"]["summary"] == "ConvNeXt feature pyramid (Liu et al. 2022)."


def test_its_own_tests_pass(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLE)]
    done = subprocess.run(
        [*command, str(EXAMPLE / "tests")], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_its_packager_writes_a_module_for_threejs(environment: dict[str, str], tmp_path: Path) -> None:
    maps = ROOT / "examples" / "materials" / "acg_Metal053C"
    neuropbr(environment, tmp_path, "package", str(maps), "--for", "threejs", "--output", "out")
    manifest = json.loads((tmp_path / "out" / "threejs" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["target"] == "acme-neuropbr:threejs"
    module = (tmp_path / "out" / "threejs" / "material.js").read_text(encoding="utf-8")
    assert "export const acg_Metal053C = new THREE.MeshStandardMaterial({" in module


def test_its_recipe_trains(environment: dict[str, str], tmp_path: Path) -> None:
    tiny = {
        "data.synthesize": "{materials: 'neuropbr:examples/materials', samples: 8, size: 64}",
        "data.image_size": "64",
        "data.output_size": "64",
        "data.crop_size": "32",
        "data.repeats": "1",
        "training.epochs": "1",
        "training.batch_size": "2",
        "training.device": "cpu",
    }
    settings = [part for key, value in tiny.items() for part in ("--set", f"{key}={value}")]
    neuropbr(environment, tmp_path, "run", str(EXAMPLE / "recipe.yaml"), "--run-name", "acme", *settings)
    provenance = json.loads((tmp_path / "runs/acme/provenance.json").read_text(encoding="utf-8"))
    used = {(part["kind"], part["distribution"]) for part in provenance["components"]}
    assert ("encoder", "acme-neuropbr") in used
    assert ("loss", "acme-neuropbr") in used
