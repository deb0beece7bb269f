"""`docs/outputs.md` says what the program does: its commands run, its tables are those of the packagers."""

import re
import shlex
from pathlib import Path

import pytest
import small_run
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.inference.tiled import OVERLAP as OVERLAP_PIXELS
from neuropbr_core.kinds import PackagerEntryOptions
from neuropbr_core.materials.seams import OVERLAP, TILES_BELOW
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.registry import default_registry

PAGE = (Path(__file__).parents[2] / "docs" / "outputs.md").read_text(encoding="utf-8")
CONVENTIONS = {
    "OpenGL": ("opengl", "directx"),
    "OpenGL only": ("opengl",),
    "DirectX": ("directx", "opengl"),
    "both": ("opengl", "directx"),
}


def test_commands_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_run.save_run(tmp_path / "runs" / "quickstart", small_run.small_recipe())
    synthesize(Synthesize("neuropbr:examples/materials", samples=1, size=32), tmp_path / "data" / "quickstart")
    monkeypatch.chdir(tmp_path)
    lines = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        lines += block.splitlines()
    for line in lines:
        program, *arguments = shlex.split(line.removeprefix("$ "))
        result = CliRunner().invoke(root, arguments, catch_exceptions=False)
        assert (program, result.exit_code) == ("neuropbr", 0), result.output
    written = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*/manifest.json")}
    assert written == {"maps/blender", "maps/unreal", "packages/gltf", "packages/materialx", "packages/plain"}


def test_the_table_of_targets_is_that_of_the_packagers() -> None:
    registry = default_registry()
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([\w ]+) \| ([\w, ]+) \|$", PAGE, re.MULTILINE)
    listed = {name: (CONVENTIONS[normals], tuple(depths.split(", "))) for name, normals, depths in rows}
    packagers = {}
    for entry in registry.entries("packager"):
        packager = registry.choose("packager", entry.qualified).create()
        packagers[entry.name] = (packager.conventions, tuple(map(str, packager.depths)))
    assert listed == packagers


def test_the_overrides_are_those_of_the_kind() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE, re.MULTILINE))
    assert listed == set(PackagerEntryOptions.__dataclass_fields__)


def test_numbers_are_those_of_the_code() -> None:
    assert f"Up to {TILES_BELOW:g} a material counts as tiling" in PAGE
    assert OVERLAP == 1 / 6
    assert "a sixth of each side" in PAGE
    assert f"overlap by at least {OVERLAP_PIXELS}\npixels" in PAGE
