import json
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
    result = CliRunner().invoke(data, ["synthesize", *options, "--out", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout == f"Rendered 8 samples into {folder}\n"
    return folder


def invoke(*arguments):
    return CliRunner().invoke(data, [*map(str, arguments)], catch_exceptions=False)


def test_check_passes_a_rendered_pool(pool):
    result = invoke("check", pool)
    assert result.exit_code == 0
    assert result.stdout == "8 samples of 8 materials, 56 images: no problems\n"


def test_check_reports_everything_and_fails(pool):
    view, normal = pool / "input/clean/sample_0003/1.png", pool / "output/t3_Wood_027/normal.png"
    kept = {path: path.read_bytes() for path in (view, normal)}
    try:
        view.unlink()
        normal.write_bytes(kept[normal][:-100])
        result = invoke("check", pool)
        assert result.exit_code == 1
        assert "sample_0003: 1.png missing" in result.stdout
        assert "t3_Wood_027/normal.png: cannot be decoded" in result.stdout
        assert result.stdout.endswith("7 samples of 7 materials, 49 images: 2 problems\n")
        report = json.loads(invoke("check", pool, "--json").stdout)
        assert (report["ok"], report["samples"], len(report["problems"])) == (False, 7, 2)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_synthesize_refuses_a_full_folder_and_resumes(pool):
    options = ["--materials", "neuropbr:examples/materials", "--samples", "8", "--size", "64", "--seed", "1"]
    with pytest.raises(DataError, match="continue with --resume"):
        invoke("synthesize", *options, "--out", pool)
    result = invoke("synthesize", *options, "--out", pool, "--resume")
    assert result.stdout == f"Rendered 0 samples into {pool}, kept 8\n"


def test_check_loads_no_torch(pool):
    code = "import sys; from neuropbr_core.cli.data import data; data(sys.argv[1:], standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code, "check", str(pool)], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
