import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from neuropbr_core.data.checking.check import check_dataset
from neuropbr_core.data.checking.examine import find_lookalikes, look_of
from neuropbr_core.data.checking.quarantine import quarantine, restore
from neuropbr_core.data.images import read_map, read_view, write_map, write_png
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, MAPS, METALLIC, NORMAL, ROUGHNESS
from neuropbr_core.recipe.sections import Data
from neuropbr_core.shipped import resolve

EXAMPLES = resolve("neuropbr:examples/materials")
MATERIALS = ("acg_Bricks102", "acg_Rock053", "t3_Wood_027")
SIZE = 64


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Three real materials at 64 pixels, four samples; sample 3 is dirty too."""
    root = tmp_path_factory.mktemp("dataset")
    for material in MATERIALS:
        for spec in MAPS.values():
            write_map(root / "output" / material, spec, read_map(EXAMPLES / material / spec.file_name, spec, SIZE))
    names = {f"sample_{index:04d}": MATERIALS[index % 3] for index in range(4)}
    for name, material in names.items():
        photo = np.moveaxis(read_view(EXAMPLES / material / "albedo.png", SIZE), 0, 2)
        for source in ("clean", "dirty") if name == "sample_0003" else ("clean",):
            for view in range(2):
                write_png(root / "input" / source / name / f"{view}.png", photo)
    (root / "input/render_metadata.json").write_text(json.dumps(names))
    return root


@pytest.fixture
def root(template, tmp_path):
    return shutil.copytree(template, tmp_path / "dataset")


def section(root, **changes):
    return replace(Data(root=str(root), views=2, render_curriculum="mixed"), **changes)


def check(root, **options):
    return check_dataset(section(root), **options)


def found(root, level=None, **options):
    """Codes and places of the findings."""
    return [
        (one.code, one.path.removeprefix(f"{root}/"))
        for one in check(root, **options).findings
        if level in (None, one.level)
    ]


def message(root, code):
    (text,) = [one.message for one in check(root).findings if one.code == code]
    return text


def test_a_sound_dataset(root):
    report = check(root)
    assert report.findings == []
    assert (report.samples, report.materials, report.files) == (5, 3, 5 * 2 + 3 * 4)
    assert report.sizes == {"views": {"64×64": 10}, "maps": {"64×64": 12}}


def test_everything_is_reported_at_once(root):
    metadata = json.loads((root / "input/render_metadata.json").read_text())
    metadata |= {"sample_0001": "acg_Rock35", "sample_0009": "t3_Wood_027"}
    del metadata["sample_0003"]
    (root / "input/render_metadata.json").write_text(json.dumps(metadata))
    (root / "input/clean/sample_0000/1.png").unlink()
    content = (root / "input/clean/sample_0002/0.png").read_bytes()
    (root / "input/clean/sample_0002/0.png").write_bytes(content[:-40])
    (root / "input/clean/photos").mkdir()
    (root / "output/t3_Wood_027/metallic.png").unlink()
    (root / "output/t3_Wood_027/albedo.png").write_bytes(b"")
    report = check(root)
    assert [(one.level, one.code, one.path.removeprefix(f"{root}/")) for one in report.findings] == [
        ("error", "missing-material", "output/acg_Rock35"),
        ("error", "missing-maps", "output/t3_Wood_027"),
        ("error", "missing-views", "input/clean/sample_0000"),
        ("error", "not-in-metadata", "input/clean/sample_0003"),
        ("error", "not-in-metadata", "input/dirty/sample_0003"),
        ("error", "truncated", "input/clean/sample_0002/0.png"),
        ("error", "truncated", "output/t3_Wood_027/albedo.png"),
        ("warning", "stray-metadata", "input/render_metadata.json"),
        ("warning", "not-a-sample", "input/clean/photos"),
    ]
    assert (report.samples, report.materials) == (0, 0)
    assert [one.sample for one in report.findings[2:6]] == [
        "clean/sample_0000",
        "clean/sample_0003",
        "dirty/sample_0003",
        "clean/sample_0002",
    ]


@pytest.mark.parametrize("file", ["input/clean/sample_0002/0.png", "output/t3_Wood_027/albedo.png"])
@pytest.mark.parametrize("damage", ["cut", "no data", "a JPEG that is cut"])
def test_the_check_and_training_agree_about_truncated_files(root, file, damage):
    path = root / file
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-40])
    elif damage == "no data":
        path.write_bytes(content[:33] + content[-12:])  # the header and the end
    else:
        with Image.open(path) as image:
            image.convert("RGB").save(path, "JPEG")
        path.write_bytes(path.read_bytes()[:-200])
    checked = [finding for finding in check(root).findings if finding.code == "truncated"]
    assert [finding.path for finding in checked] == [str(path)]
    with pytest.raises(DataError, match=rf"{path.name} truncated"):
        find_samples(section(root))
    # The rest of the check went on.
    assert check(root).files == 5 * 2 + 3 * 4


def test_the_common_issues_say_what_to_do(root):
    (root / "input/render_metadata.json").rename(root / "names.json")
    assert message(root, "metadata").startswith(
        "no such file; create it: a JSON object from sample folders to material"
    )
    (root / "names.json").rename(root / "input/render_metadata.json")
    for source in ("clean", "dirty"):
        (root / "input" / source).rename(root / "input" / f"{source}_renders")
    assert message(root, "no-samples").endswith("put each sample's views there as sample_0000/0.png, 1.png, …")


def test_materials_are_checked_without_any_sample(root):
    shutil.rmtree(root / "input")
    (root / "output/acg_Rock053/normal.png").write_bytes(b"no image")
    assert found(root) == [
        ("no-samples", f"input/clean or {root}/input/dirty"),
        ("undecodable", "output/acg_Rock053/normal.png"),
    ]


def test_files_that_readers_cope_with_are_noted(root):
    rgb = Image.open(root / "input/clean/sample_0000/0.png")
    rgb.convert("RGBA").save(root / "input/clean/sample_0000/0.png")
    rgb.convert("L").save(root / "input/clean/sample_0000/1.png")
    stored = read_map(root / "output/t3_Wood_027/roughness.png", ROUGHNESS)
    write_map(root / "output/t3_Wood_027", ROUGHNESS, stored.astype(np.uint16) * 257)
    assert found(root, "info") == [
        ("alpha", "input/clean/sample_0000/0.png"),
        ("grey", "input/clean/sample_0000/1.png"),
        ("sixteen-bit", "output/t3_Wood_027/roughness.png"),
    ]
    assert check(root).samples == 5


def test_files_that_cannot_be_maps_are_errors(root):
    folder = root / "output/t3_Wood_027"
    write_png(folder / "albedo.png", np.zeros((64, 32, 3), np.uint8))
    write_png(folder / "roughness.png", np.array([[[10, 200, 30]]], np.uint8).repeat(64, 0).repeat(64, 1))
    write_png(folder / "normal.png", np.zeros((64, 64), np.uint8))
    assert found(root, "error") == [
        ("unusable-map", f"output/t3_Wood_027/{name}.png") for name in ("albedo", "roughness", "normal")
    ]
    assert check(root).materials == 2


def test_sizes(root):
    write_png(root / "input/clean/sample_0001/1.png", np.full((32, 32, 3), 90, np.uint8))
    for spec in MAPS.values():
        stored = read_map(EXAMPLES / "acg_Rock053" / spec.file_name, spec, 32)
        write_map(root / "output/acg_Rock053", spec, stored)
    places = ["input/clean/sample_0001", "output/acg_Rock053"]
    assert found(root) == [("mixed-size", place) for place in places]
    report = check(root)
    assert report.findings[0].message == (
        "1.png 32×32 pixels; 64×64 is the most frequent of the views. Training resizes it"
    )
    assert report.sizes["maps"] == {"64×64": 8, "32×32": 4}
    wrong = found(root, size=32)
    assert {code for code, _ in wrong} == {"wrong-size"}
    assert len(wrong) == 5 + 2


def test_a_view_that_is_not_square(root):
    for view in range(2):
        write_png(root / f"input/clean/sample_0001/{view}.png", np.full((64, 48, 3), 90, np.uint8))
    assert [place for code, place in found(root, "warning") if code == "not-square"] == [
        f"input/clean/sample_0001/{view}.png" for view in range(2)
    ]


def test_implausible_maps_are_warned_of(root):
    normal = read_map(root / "output/acg_Bricks102/normal.png", NORMAL)
    normal[1] = 255 - normal[1]
    write_map(root / "output/acg_Bricks102", NORMAL, normal)
    write_map(root / "output/acg_Rock053", METALLIC, np.full((1, SIZE, SIZE), 128, np.uint8))
    write_map(root / "output/t3_Wood_027", ALBEDO, np.full((3, SIZE, SIZE), 128, np.uint8))
    assert found(root, "warning") == [
        ("normal-directx", "output/acg_Bricks102/normal.png"),
        ("metallic-not-binary", "output/acg_Rock053/metallic.png"),
        ("constant-albedo", "output/t3_Wood_027/albedo.png"),
    ]


def test_unused_materials_and_copies(root):
    shutil.copytree(root / "output/acg_Rock053", root / "output/rock_copy")
    shutil.copytree(root / "output/acg_Rock053", root / "output/rock_variant")
    varied = np.asarray(Image.open(root / "output/rock_variant/albedo.png")).astype(int) * 3 // 4 + 5
    write_png(root / "output/rock_variant/albedo.png", varied.astype(np.uint8))
    (root / "output/notes").mkdir()
    assert found(root) == [
        ("unused-material", "output/rock_copy"),
        ("unused-material", "output/rock_variant"),
        ("duplicate-material", "output/rock_copy"),
        ("look-alike", "output/rock_variant"),
        ("look-alike", "output/rock_variant"),
    ]
    assert "same albedo as acg_Rock053; remove all but one" in message(root, "duplicate-material")
    assert "data.groups" in message(root, "duplicate-material")


def test_the_examples_do_not_look_alike():
    looks = {path.name: look_of(read_map(path / "albedo.png", ALBEDO)) for path in EXAMPLES.iterdir() if path.is_dir()}
    assert len(looks) == 8
    assert find_lookalikes(looks) == ([], [])


@pytest.mark.parametrize("change", ["smaller", "compressed", "darker"])
def test_look_alikes_survive_small_changes(tmp_path, change):
    for folder in EXAMPLES.iterdir():
        if not folder.is_dir():
            continue
        albedo = read_map(folder / "albedo.png", ALBEDO)
        if change == "smaller":
            other = read_map(folder / "albedo.png", ALBEDO, 128)
        elif change == "compressed":
            Image.fromarray(np.moveaxis(albedo, 0, 2)).save(tmp_path / "a.jpg", quality=60)
            other = read_view(tmp_path / "a.jpg")
        else:
            other = (albedo * 0.7).astype(np.uint8)
        alike = find_lookalikes({"a": look_of(albedo), "b": look_of(other)})
        assert [pair[:2] for pair in alike.near] == [("a", "b")], folder.name


def test_plain_colours_are_not_alike():
    looks = {str(value): look_of(np.full((3, 32, 32), value, np.uint8)) for value in (60, 120)}
    assert find_lookalikes(looks) == ([], [])


def test_processes_find_the_same(root):
    (root / "input/clean/sample_0001/1.png").write_bytes(b"")
    for index in range(10, 26):
        shutil.copytree(root / "input/clean/sample_0000", root / f"input/clean/sample_{index:04d}")
    assert check(root, workers=2) == check(root)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spoil(root):
    """One damaged view in a clean sample that is dirty too; one damaged material."""
    (root / "input/clean/sample_0003/1.png").write_bytes(b"")
    (root / "output/acg_Rock053/roughness.png").write_bytes(b"")


def test_quarantine_moves_and_restore_undoes(root, tmp_path):
    spoil(root)
    cameras = {f"sample_{index:04d}": [index] for index in range(4)}
    (root / "input/cameras.json").write_text(json.dumps(cameras))
    captures = {name: {"kind": "flash"} for name in cameras}
    (root / "input/captures.json").write_text(json.dumps(captures))
    before = tree(root)
    moved = quarantine(section(root), check(root).findings, tmp_path / "aside")
    assert [move.target.removeprefix(f"{tmp_path}/aside/") for move in moved] == [
        "input/clean/sample_0001",
        "input/clean/sample_0003",
        "output/acg_Rock053",
    ]
    assert moved[0].why == ("its material acg_Rock053 cannot be used",)
    assert moved[2].why[0].startswith(f"{root}/output/acg_Rock053/roughness.png: truncated; restore")
    assert found(root) == []
    assert check(root).samples == 3
    metadata = json.loads((root / "input/render_metadata.json").read_text())
    assert sorted(metadata) == ["sample_0000", "sample_0002", "sample_0003"]  # 3 is still there, dirty
    assert sorted(json.loads((root / "input/cameras.json").read_text())) == sorted(metadata)
    assert sorted(json.loads((root / "input/captures.json").read_text())) == sorted(metadata)
    log = json.loads((tmp_path / "aside/quarantine.json").read_text())
    assert [entry["source"] for entry in log["moved"]] == [move.source for move in moved]
    assert json.loads((tmp_path / "aside/input/render_metadata.json").read_text())["sample_0001"] == "acg_Rock053"
    assert restore(tmp_path / "aside") == moved
    after = tree(root)
    for name in ("input/render_metadata.json", "input/cameras.json", "input/captures.json"):
        assert json.loads(after.pop(name)) == json.loads(before.pop(name))
    assert after == before
    assert restore(tmp_path / "aside") == []


def test_a_second_quarantine_continues_the_first(root, tmp_path):
    (root / "input/clean/sample_0001/1.png").write_bytes(b"")
    quarantine(section(root), check(root).findings, tmp_path / "aside")
    (root / "input/clean/sample_0002/1.png").write_bytes(b"")
    quarantine(section(root), check(root).findings, tmp_path / "aside")
    assert len(restore(tmp_path / "aside")) == 2
    assert len(list((root / "input/clean").iterdir())) == 4


def test_quarantine_of_nothing_makes_nothing(root, tmp_path):
    assert quarantine(section(root), check(root).findings, tmp_path / "aside") == []
    assert not (tmp_path / "aside").exists()


def test_quarantine_refuses_what_would_be_a_mistake(root, tmp_path):
    before = tree(root)
    five = section(root, views=5)
    with pytest.raises(DataError, match=r"all 5 samples are bad, so nothing was moved; most likely data.views"):
        quarantine(five, check_dataset(five).findings, tmp_path / "aside")
    # Dirty samples, which this curriculum does not read, make no clean one sound.
    clean = section(root, views=5, render_curriculum=0)
    with pytest.raises(DataError, match=r"all 4 samples are bad, so nothing was moved"):
        quarantine(clean, check_dataset(clean).findings, tmp_path / "aside")
    assert tree(root) == before
    spoil(root)
    findings = check(root).findings
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(DataError, match=r"other: holds other things; name a new folder"):
        quarantine(section(root), findings, tmp_path / "other")
    (tmp_path / "other/quarantine.json").write_text('{"metadata": "/elsewhere", "cameras": "", "moved": []}')
    with pytest.raises(DataError, match=r"is the quarantine of another dataset \(/elsewhere\)"):
        quarantine(section(root), findings, tmp_path / "other")
    (root / "input/render_metadata.json").unlink()
    with pytest.raises(DataError, match=r"render_metadata\.json: no such file"):
        quarantine(section(root), findings, tmp_path / "aside")
    assert set(tree(root)) == set(before) - {"input/render_metadata.json"}
    with pytest.raises(DataError, match=r"quarantine\.json: no such file, but every quarantine has one"):
        restore(tmp_path)


def test_quarantine_and_restore_overwrite_nothing(root, tmp_path):
    (root / "input/clean/sample_0001/1.png").write_bytes(b"")
    quarantine(section(root), check(root).findings, tmp_path / "aside")
    write_png(root / "input/clean/sample_0001/0.png", np.full((64, 64, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"clean/sample_0001: is there again; move it away, then restore"):
        restore(tmp_path / "aside")
    with pytest.raises(DataError, match=r"clean/sample_0001: is in the quarantine already; restore it first"):
        quarantine(section(root), check(root).findings, tmp_path / "aside")
    assert (tmp_path / "aside/input/clean/sample_0001").is_dir()
    assert (root / "input/clean/sample_0001").is_dir()


def test_an_interrupted_quarantine_can_be_restored(root, tmp_path, monkeypatch):
    spoil(root)
    findings, before = check(root).findings, set(tree(root))

    def failing(source, target):
        if "Rock053" in source:
            raise OSError("disk full")
        return original(source, target)

    original = shutil.move
    monkeypatch.setattr(shutil, "move", failing)
    with pytest.raises(OSError, match="disk full"):
        quarantine(section(root), findings, tmp_path / "aside")
    monkeypatch.undo()
    assert len(restore(tmp_path / "aside")) == 2
    assert set(tree(root)) == before
