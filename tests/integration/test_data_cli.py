import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from neuropbr_core.cli.data import data
from neuropbr_core.errors import DataError


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    options = ["--materials", "neuropbr:examples/materials", "--samples", "8", "--size", "64", "--seed", "1"]
    result = CliRunner().invoke(data, ["synthesize", *options, "--output", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout == f"Rendered 8 samples into {folder}\n"
    return folder


def invoke(*arguments):
    return CliRunner().invoke(data, [*map(str, arguments)], catch_exceptions=False)


def test_check_passes_a_rendered_pool(pool):
    result = invoke("check", pool)
    assert result.exit_code == 0
    assert result.stdout.endswith("8 samples of 8 materials, 56 images: 2 warnings\n")
    lines = result.stdout.splitlines()
    assert [line.split(": is neither")[0] for line in lines[:2]] == [
        f"warning: {pool / 'output' / name / 'metallic.png'}" for name in ("acg_Metal053C", "t3_Sci-Fi_Wall_014")
    ]
    assert all(line.startswith("info: ") for line in lines[2:-1])


def test_strict_fails_on_warnings(pool):
    assert invoke("check", pool, "--strict").exit_code == 1


METALS = ("acg_Metal053C", "t3_Sci-Fi_Wall_014")


def test_warnings_that_were_looked_at_are_allowed(pool):
    allowed = [f"--allow=metallic-not-binary:{name}" for name in METALS]
    result = invoke("check", pool, "--strict", *allowed, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"], report["counts"]["warning"]) == (0, True, 0)
    lowered = [finding for finding in report["findings"] if finding["message"].endswith(" (allowed)")]
    assert [(one["level"], one["code"], one["material"]) for one in lowered] == [
        ("info", "metallic-not-binary", name) for name in METALS
    ]
    assert invoke("check", pool, "--strict", allowed[0]).exit_code == 1
    assert invoke("check", pool, "--strict", "--allow=metallic-not-binary").exit_code == 0
    result = invoke("check", pool, "--strict", "--allow=metallic-not-binary:oak")
    assert (result.exit_code, result.stderr) == (1, "--allow metallic-not-binary:oak: fits no warning\n")


def test_errors_are_not_allowed_away(spoilt):
    result = invoke("check", spoilt, "--allow=truncated", "--allow=missing-views")
    assert (result.exit_code, result.stderr.count("fits no warning")) == (1, 2)


@pytest.mark.parametrize("curriculum", ["0", "clean"])
def test_folders_that_lie_apart_are_checked(spoilt, tmp_path, curriculum):
    (tmp_path / "photos").mkdir()
    views, maps = spoilt.rename(tmp_path / "data") / "input", tmp_path / "photos/maps"
    (tmp_path / "data/output").rename(maps)
    (views / "render_metadata.json").rename(tmp_path / "names.json")
    where = ["--input-dir", views, "--output-dir", maps]
    named = ["--metadata", tmp_path / "names.json", "--render-curriculum", curriculum]
    result = invoke("check", *where, *named, "--quarantine", tmp_path / "aside", "--json")
    report = json.loads(result.stdout)
    assert (report["ok"], report["samples"], len(report["moved"])) == (True, 6, 3)
    assert (tmp_path / "aside/output/t3_Wood_027").is_dir()
    usage = CliRunner().invoke(data, ["check", "--input-dir", str(views)])
    assert (usage.exit_code, "name a ROOT, or both --input-dir and --output-dir" in usage.stderr) == (2, True)


@pytest.fixture
def spoilt(pool, tmp_path):
    """A copy of the pool with a view missing and a normal map cut off."""
    root = shutil.copytree(pool, tmp_path / "spoilt")
    (root / "input/clean/sample_0003/1.png").unlink()
    normal = root / "output/t3_Wood_027/normal.png"
    normal.write_bytes(normal.read_bytes()[:-100])
    return root


def test_check_reports_everything_and_fails(spoilt):
    result = invoke("check", spoilt)
    assert result.exit_code == 1
    assert "error: " in result.stdout
    assert "sample_0003: 1.png missing" in result.stdout
    assert "t3_Wood_027/normal.png: truncated; restore" in result.stdout
    assert result.stdout.endswith("6 samples of 6 materials, 55 images: 2 errors, 2 warnings\n")


def test_the_json_report_has_a_fixed_form(spoilt):
    result = invoke("check", spoilt, "--json", "--strict")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert list(report) == [
        *("version", "ok", "strict", "samples", "materials", "files"),
        *("sizes", "counts", "findings", "moved"),
    ]
    assert (report["version"], report["ok"], report["strict"], report["moved"]) == (1, False, True, [])
    assert (report["samples"], report["materials"], report["files"]) == (6, 6, 55)
    assert report["sizes"] == {"views": {"64×64": 23}, "maps": {"64×64": 31}}
    assert report["counts"]["error"] == 2
    assert {tuple(finding) for finding in report["findings"]} == {
        ("level", "code", "path", "message", "sample", "material")
    }
    first = report["findings"][0]
    assert (first["level"], first["code"], first["sample"]) == ("error", "missing-views", "clean/sample_0003")


def test_quarantine_and_restore(spoilt):
    before = {path.relative_to(spoilt) for path in spoilt.rglob("*") if path.is_file()}
    result = invoke("check", spoilt, "--quarantine")
    assert result.exit_code == 0
    moved = [line for line in result.stdout.splitlines() if line.startswith("moved: ")]
    assert len(moved) == 3  # the sample, the material, and the sample that shows it
    left = invoke("check", spoilt).stdout
    assert "no sample shows it" in left
    assert left.endswith("6 samples of 6 materials, 46 images: 3 warnings\n")
    result = invoke("restore", spoilt / "quarantine")
    assert result.stdout.endswith(f"Restored 3 folders from {spoilt / 'quarantine'}\n")
    shutil.rmtree(spoilt / "quarantine")
    assert {path.relative_to(spoilt) for path in spoilt.rglob("*") if path.is_file()} == before


def test_quarantine_to_a_named_folder_with_json(spoilt, tmp_path):
    result = invoke("check", spoilt, "--quarantine", tmp_path / "aside", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"], len(report["moved"])) == (0, True, 3)
    assert list(report["moved"][0]) == ["source", "target", "why", "when"]
    assert (tmp_path / "aside/output/t3_Wood_027").is_dir()


def test_errors_that_cannot_be_moved_still_fail(spoilt, tmp_path):
    cameras = spoilt / "input/cameras.json"
    cameras.write_text("{")
    result = invoke("check", spoilt, "--quarantine", tmp_path / "aside")
    assert result.exit_code == 1
    assert f"error: {cameras}: is no JSON" in result.stdout


def test_import_then_check(pool, tmp_path):
    for path in (pool / "output/acg_Rock053").iterdir():
        (tmp_path / "source/rock").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "source/rock" / path.name)
    (tmp_path / "source/rock/preview.png").touch()
    result = invoke("import", tmp_path / "source", "--output", tmp_path / "data", "--size", 32)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "rock  imported  32×32"
    assert lines[1] == "    albedo, roughness, metallic, normal: shrunk from 64 pixels"
    assert lines[-2] == "not needed: preview (1)"
    assert lines[-1] == f"Imported 1 of 1 materials into {tmp_path / 'data/output'}"
    again = invoke("import", tmp_path / "source", "--output", tmp_path / "data", "--json")
    report = json.loads(again.stdout)
    assert list(report) == ["version", "ok", "materials", "ignored"]
    assert list(report["materials"][0]) == ["name", "status", "size", "files", "notes"]
    assert (again.exit_code, report["ok"], report["materials"][0]["status"]) == (0, True, "exists")
    (tmp_path / "source/rock/roughness.png").unlink()
    refused = invoke("import", tmp_path / "source", "--output", tmp_path / "data", "--overwrite")
    assert refused.exit_code == 1
    assert f"    {tmp_path / 'source/rock'}: has no roughness map" in refused.stdout
    assert refused.stdout.endswith("output, 1 refused\n")


def test_synthesize_refuses_a_full_folder_and_resumes(pool):
    options = ["--materials", "neuropbr:examples/materials", "--samples", "8", "--size", "64", "--seed", "1"]
    with pytest.raises(DataError, match="continue with --resume"):
        invoke("synthesize", *options, "--output", pool)
    result = invoke("synthesize", *options, "--output", pool, "--resume")
    assert result.stdout == f"Rendered 0 samples into {pool}, kept 8\n"


@pytest.mark.parametrize("command", ["check", "import"])
def test_looking_at_files_loads_no_torch(pool, tmp_path, command):
    code = "import sys; from neuropbr_core.cli.data import data; data(sys.argv[1:], standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    arguments = (
        ["check", str(pool)] if command == "check" else ["import", str(pool / "output"), "--output", str(tmp_path)]
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
