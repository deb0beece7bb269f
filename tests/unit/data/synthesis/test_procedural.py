from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from neuropbr_core.cli.data import data
from neuropbr_core.data.images import read_map, write_map
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.data.opening import ensure_captures, open_dataset
from neuropbr_core.data.splits import split_materials
from neuropbr_core.data.synthesis.capture_folder import CaptureFolder
from neuropbr_core.data.synthesis.procedural import ProceduralMaterial, procedural_materials, write_materials
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.procedural.catalog import KINDS, REVISION
from neuropbr_core.materials.procedural.naming import is_procedural
from neuropbr_core.recipe.sections import Data, Synthesize
from neuropbr_core.reporting import RecordingReporter, reporting_to

FAST = ("brushed_metal", "sand", "knit")


@pytest.fixture
def plan(tmp_path):
    folder = tmp_path / "materials"
    for material in ("brick", "oak"):
        for spec in MAPS.values():
            write_map(folder / material, spec, np.full((spec.channels, 32, 32), 128, np.uint8))
    return Synthesize(str(folder), samples=5, size=32, seed=4, procedural=3)


def invoke(*arguments):
    return CliRunner().invoke(data, [*map(str, arguments)], catch_exceptions=False)


def test_kinds_take_turns_and_then_seeds_grow():
    names = [material.name for material in procedural_materials(5, 9, ("sand", "knit"))]
    assert names == ["proc_sand_9", "proc_knit_9", "proc_sand_10", "proc_knit_10", "proc_sand_11"]
    assert [material.kind for material in procedural_materials(len(KINDS), 0)] == list(KINDS)
    assert procedural_materials(30, 2)[:20] == procedural_materials(20, 2)


@pytest.mark.parametrize("kinds", [("sand", "sofa"), ("sand", "sand"), ()])
def test_wrong_kinds_are_refused(kinds):
    with pytest.raises(
        DataError, match=r"kinds of procedural materials: found .*; name each once, of: bricks, brushed"
    ):
        procedural_materials(2, 0, kinds)


def test_folders_hold_what_was_generated(tmp_path):
    material = ProceduralMaterial("sand", 3)
    assert write_materials([material], tmp_path, 48) == [tmp_path / "proc_sand_3"]
    for name, stored in material.stored(48).items():
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(read_map(tmp_path / "proc_sand_3" / MAPS[name].file_name, MAPS[name]), stored)


def test_procedural_materials_are_rendered_beside_the_folders(plan, tmp_path):
    synthesize(plan, tmp_path / "pool", views=2)
    samples = find_samples(Data(root=str(tmp_path / "pool"), views=2))
    made = ["proc_bricks_4", "proc_brushed_metal_4", "proc_planks_4"]
    assert [sample.material for sample in samples] == ["brick", "oak", *made]
    truth = ProceduralMaterial("brushed_metal", 4).stored(32)
    for name, spec in MAPS.items():
        np.testing.assert_array_equal(read_map(samples[3].maps[name], spec), truth[name])
    recorded = CaptureFolder(tmp_path / "pool").settings().materials
    assert list(recorded) == ["brick", "oak", *made]
    assert {recorded[name] for name in made} == {f"procedural-{REVISION}"}


def test_another_number_or_revision_is_noticed(plan, tmp_path, monkeypatch):
    section = Data(root=str(tmp_path / "pool"), views=2, synthesize=plan)
    told = RecordingReporter()
    said = told.lines
    with reporting_to(told):
        ensure_captures(section)
    assert said[0].startswith(f"Rendering 5 captures of the materials in {plan.materials} and 3 procedural ones into ")
    with reporting_to(told):
        ensure_captures(section)
    assert len(said) == 1
    with pytest.raises(DataError, match=r"other settings: other materials \(proc_planks_4\); set another data\.root"):
        ensure_captures(replace(section, synthesize=replace(plan, procedural=2)))
    monkeypatch.setattr("neuropbr_core.data.synthesis.procedural.REVISION", REVISION + 1)
    with pytest.raises(DataError, match=r"other materials \(proc_bricks_4, proc_brushed_metal_4, proc_planks_4\)"):
        ensure_captures(section)


def test_a_folder_of_the_same_name_is_refused(plan, tmp_path):
    folder = tmp_path / "materials"
    (folder / "oak").rename(folder / "proc_bricks_4")
    with pytest.raises(DataError, match=r"materials: holds proc_bricks_4, which `procedural` 3 makes too; rename or"):
        synthesize(plan, tmp_path / "pool")


def test_procedural_materials_are_never_held_back_by_hash():
    real = [f"real_{index}" for index in range(40)]
    made = [material.name for material in procedural_materials(200, 0)]
    assert all(map(is_procedural, made))
    assert not any(map(is_procedural, real))
    for seed in range(5):
        alone = split_materials(real, val_ratio=0.3, seed=seed)
        mixed = split_materials([*real, *made], val_ratio=0.3, seed=seed)
        assert mixed.val == alone.val
        assert set(mixed.train) == {*alone.train, *made}


def test_a_dataset_of_procedural_materials_alone_has_no_validation():
    split = split_materials(["proc_sand_0", "proc_sand_1"], val_ratio=0.5, seed=0)
    assert split.val == ()
    assert split.notes == ("no validation: all materials are procedural; hold some back with data.val_materials",)


def test_listed_ones_are_held_back(tmp_path):
    write_materials(procedural_materials(3, 0, FAST), tmp_path / "materials", 32)
    synthesize(Synthesize(str(tmp_path / "materials"), samples=3, size=32), tmp_path / "pool")
    split = split_materials(
        [sample.material for sample in find_samples(Data(root=str(tmp_path / "pool")))],
        val_ratio=0.1,
        seed=0,
        val_materials=("proc_sand_0",),
    )
    assert split.val == ("proc_sand_0",)
    assert split.train == ("proc_brushed_metal_0", "proc_knit_0")


def test_a_recipe_with_both(plan, tmp_path):
    recipe = tmp_path / "mixed.yaml"
    recipe.write_text(
        "extends: neuropbr:quickstart\n"
        f"data: {{root: {tmp_path / 'pool'}, image_size: 32, output_size: 32, crop_size: null, views: 2,\n"
        f"  val_materials: [oak],\n"
        f"  synthesize: {{materials: {plan.materials}, samples: 6, size: 32, seed: 0, procedural: 3}}}}\n"
    )
    dataset = open_dataset(recipe)
    assert dataset.split["val"] == ("oak",)
    assert dataset.split["train"] == ("brick", "proc_bricks_0", "proc_brushed_metal_0", "proc_planks_0")


def test_the_command_writes_folders(tmp_path):
    options = ["--count", 2, "--size", 32, "--seed", 5, "--kinds", "sand, knit"]
    result = invoke("procedural", "--output", tmp_path / "made", *options)
    assert result.exit_code == 0
    assert result.stdout == f"Wrote 2 materials into {tmp_path / 'made'}\n"
    names = sorted(path.name for path in (tmp_path / "made").iterdir())
    assert names == [".neuropbr-written.json", "proc_knit_5", "proc_sand_5"]


def test_the_command_draws_a_sheet(tmp_path):
    sheet = tmp_path / "pictures" / "sheet.png"
    result = invoke("procedural", "--sheet", sheet, "--kinds", "sand,brushed_metal")
    assert result.stdout == f"Drew 2 kinds into {sheet}\n"
    with Image.open(sheet) as image:
        assert image.width > 2 * 7 * 64
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50


def test_the_command_says_what_is_missing():
    result = invoke("procedural")
    assert result.exit_code == 2
    assert "give --output DIR for materials, --sheet FILE for a picture of them, or both" in result.stderr


def test_captures_of_both_by_the_command(plan, tmp_path):
    options = ["--materials", plan.materials, "--samples", 3, "--views", 1, "--size", 32, "--procedural", 1]
    result = invoke("synthesize", *options, "--output", tmp_path / "pool")
    assert result.exit_code == 0
    assert set(CaptureFolder(tmp_path / "pool").materials.values()) == {"brick", "oak", "proc_bricks_0"}
