"""The built wheel, installed outside the checkout: plugins, recipes, example materials, types and a real run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = [
    "data.synthesize={materials: 'neuropbr:examples/materials', samples: 8, size: 32}",
    "data.image_size=32",
    "data.output_size=32",
    "data.crop_size=16",
    "data.repeats=1",
    "training.epochs=1",
    "training.batch_size=2",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed into it, and nothing else."""
    work = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (work / "dist").glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(work / "site")]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return work / "site"


def call(site: Path, cwd: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def neuropbr(site: Path, cwd: Path, *arguments: str) -> str:
    return call(site, cwd, "-c", "from neuropbr_core.cli import main; main()", *arguments)


def test_the_wheel_is_what_is_tested(site: Path, tmp_path: Path) -> None:
    found = call(site, tmp_path, "-c", "import neuropbr_core, neuropbr_losses; print(neuropbr_core.__file__)")
    assert Path(found.strip()).is_relative_to(site)
    assert (site / "neuropbr_core" / "py.typed").is_file()
    assert not list(site.rglob("tests"))


def test_the_wheel_has_the_templates_of_packages(site: Path, tmp_path: Path) -> None:
    neuropbr(site, tmp_path, "plugin", "new", "dataset", "tape")
    # Files that begin with a dot are among the templates too.
    assert (tmp_path / "neuropbr-tape" / ".github/workflows/test.yml").is_file()
    assert (tmp_path / "neuropbr-tape" / ".gitignore").is_file()
    assert (tmp_path / "neuropbr-tape" / "tests/test_tape.py").is_file()


def test_every_component_of_the_wheel_loads(site: Path, tmp_path: Path) -> None:
    rows = json.loads(neuropbr(site, tmp_path, "list-plugins", "--check", "--json"))
    ours = [row for row in rows if row["distribution"] == "neuropbr"]
    # The page needs a package of npm, which no wheel brings.
    assert {row["status"] for row in ours if row["name"] != "web"} == {"ready"}
    assert {"encoder", "fusion", "loss", "exporter", "observer", "dataset", "packager"} == {row["kind"] for row in ours}


def test_shipped_recipes_check(site: Path, tmp_path: Path) -> None:
    names = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
    # In one process: PyTorch is loaded once, and not for each recipe.
    program = "import sys; from click.testing import CliRunner; from neuropbr_core.cli import root\n"
    program += "for name in sys.argv[1:]: print(CliRunner().invoke(root, ['recipe', 'check', name]).output)"
    checked = call(site, tmp_path, "-c", program, *(f"neuropbr:{name}" for name in names))
    for name in names:
        assert f"recipe ok: neuropbr:{name}\n" in checked, checked


def test_a_run_from_outside_the_checkout(site: Path, tmp_path: Path) -> None:
    settings = [part for setting in TINY for part in ("--set", setting)]
    neuropbr(site, tmp_path, "run", "neuropbr:quickstart", "--device", "cpu", *settings)
    run, views = "runs/quickstart", "data/quickstart/input/clean/sample_0000"
    neuropbr(site, tmp_path, "infer", "--run", run, "--input", views, "--output", "maps", "--device", "cpu")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        ".neuropbr-written.json",
        "albedo.png",
        "metallic.png",
        "normal.png",
        "roughness.png",
        "views",
    ]
    page = (tmp_path / run / "report.html").read_text(encoding="utf-8")
    assert "Pictures of samples are missing" not in page


def test_the_report_needs_no_checkout(site: Path, tmp_path: Path) -> None:
    expected = {"three.js", "LICENSE", "entry.js", "package.json"}
    files = {}
    for room in ("report", "viewer"):
        expected.update(path.name for path in (ROOT / "neuropbr_core" / room).glob("assets/*"))
        for path in (site / "neuropbr_core" / room).rglob("*"):
            if path.is_file() and path.suffix != ".py":
                files[path.name] = path.stat().st_size
    assert expected <= files.keys()
    assert sum(files.values()) < 1_000_000
    maps = site / "neuropbr_core" / "_shipped" / "examples" / "materials" / "acg_Bricks102"
    neuropbr(site, tmp_path, "report", str(maps), "--output", "page.html", "--map-side", "32")
    assert "three.js authors" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_model_in_the_box_needs_no_checkout(site: Path, tmp_path: Path) -> None:
    photos = site / "neuropbr_core" / "_shipped" / "examples" / "captures" / "bricks"
    neuropbr(site, tmp_path, "infer", str(photos), "--device", "cpu")
    assert (tmp_path / "bricks_maps" / "albedo.png").is_file()
    assert "flash-3*" in neuropbr(site, tmp_path, "list-models")
