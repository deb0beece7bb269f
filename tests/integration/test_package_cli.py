"""`neuropbr package` and `neuropbr infer --for`: from maps and photos to packages, through the command line."""

import json
from pathlib import Path

import pytest
import small_run
from click.testing import CliRunner, Result

from neuropbr_core.cli import root
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.shipped import shipped_root

MATERIAL = shipped_root() / "examples" / "materials" / "acg_Bricks102"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, list(map(str, arguments)))


def test_every_target_is_written_from_a_folder_of_maps(tmp_path: Path) -> None:
    targets = "plain,gltf,materialx,usd,blender,unreal,unity,godot,ambientcg,substance"
    done = run("package", MATERIAL, "--for", targets, "--output", tmp_path, "--option", "size=32")
    assert done.exit_code == 0, done.output
    for target in targets.split(","):
        manifest = json.loads((tmp_path / target / "manifest.json").read_text())
        assert manifest["target"] == f"neuropbr:{target}"
        assert manifest["material"] == "acg_Bricks102"
        assert f"wrote {tmp_path / target}" in done.output


def test_options_belong_to_one_target_or_to_all(tmp_path: Path) -> None:
    arguments = ("--option", "size=16", "--option", "unreal.size=32", "--option", "unreal.content=/Game/Mine")
    done = run("package", MATERIAL, "--for", "plain, unreal", "--output", tmp_path, "--name", "old wall", *arguments)
    assert done.exit_code == 0, done.output
    plain = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    unreal = json.loads((tmp_path / "unreal" / "manifest.json").read_text())
    assert plain["material"] == "old_wall"
    assert plain["options"] == {"size": 16}
    assert unreal["options"] == {"size": 32, "content": "/Game/Mine"}


def test_tileable_cuts_and_says_so(tmp_path: Path) -> None:
    done = run("package", MATERIAL, "--for", "plain", "--output", tmp_path, "--tileable")
    assert done.exit_code == 0, done.output
    assert "the material tiles, after it was cut" in done.output
    tiling = json.loads((tmp_path / "plain" / "manifest.json").read_text())["tiling"]
    assert tiling["maps"] == "cut"
    assert tiling["tiles"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--for", "blendr"), "Did you mean 'blender'"),
        (("--for", "plain", "--option", "depth=12"), "12"),
        (("--for", "plain", "--option", "deth=8"), "deth"),
        (("--for", "godot", "--option", "normals=directx"), "target godot: found normals directx, allowed opengl"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run("package", MATERIAL, *arguments, "--output", tmp_path / "out")
    assert done.exit_code != 0
    text = str(done.exception)
    assert message in text, text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    small_run.save_run(folder / "run", small_run.small_recipe())
    synthesize(Synthesize("neuropbr:examples/materials", samples=1, size=32), folder / "data")
    return folder


def test_infer_writes_packages_beside_the_maps(project: Path, tmp_path: Path) -> None:
    views = project / "data" / "input" / "clean" / "sample_0000"
    done = run(
        "infer", "--run", project / "run", "--input", views, "--output", tmp_path, "--for", "blender,unreal",
        "--tileable", "--option", "metres=0.2", "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / "albedo.png").is_file()
    blender = json.loads((tmp_path / "blender" / "manifest.json").read_text())
    assert blender["material"] == "sample_0000"
    assert blender["tiling"]["metres"] == 0.2
    assert set(blender["made_by"]) == {"neuropbr", "packager", "model", "weights", "views"}
    assert "REPEATS = 5.0" in (tmp_path / "blender" / "import_sample_0000.py").read_text()
    assert (tmp_path / "unreal" / "T_sample_0000_ORM.png").is_file()
    # What `infer` wrote is what `package` takes.
    again = run("package", tmp_path, "--for", "gltf", "--output", tmp_path)
    assert again.exit_code == 0, again.output


def test_infer_refuses_options_without_targets(project: Path, tmp_path: Path) -> None:
    views = project / "data" / "input" / "clean" / "sample_0000"
    done = run("infer", "--run", project / "run", "--input", views, "--output", tmp_path, "--option", "size=8")
    assert done.exit_code == 2
    assert "name one with --for NAME" in done.output
