"""The example script runs as its text says."""

import subprocess
import sys
from pathlib import Path

import pytest

from neuropbr_core.maps import MAPS

SCRIPT = Path(__file__).parents[2] / "examples" / "workflow.py"


@pytest.mark.slow
def test_the_example_does_the_whole_work(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Prediction('bricks', albedo" in done.stdout
    assert "best constant" in done.stdout
    for name in MAPS:
        assert (tmp_path / "out" / "maps" / f"{name}.png").is_file()
    assert {path.name for path in (tmp_path / "out" / "packages").iterdir()} == {"blender", "gltf"}
    assert list((tmp_path / "out" / "exports").glob("torchscript*.pt"))
