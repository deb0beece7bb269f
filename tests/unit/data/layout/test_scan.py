import json
from dataclasses import replace

import numpy as np
import pytest

from neuropbr_core.data.images import write_map, write_png
from neuropbr_core.data.layout.paths import CameraRecord, conditions, read_cameras, write_cameras
from neuropbr_core.data.layout.scan import find_samples, scan_dataset
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data

CAMERA = CameraRecord(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 2.0))


@pytest.fixture
def root(tmp_path):
    """Samples 0 and 1 clean, 1 and 2 dirty; two materials; cameras for all."""
    for folder in ("clean/sample_0000", "clean/sample_0001", "dirty/sample_0001", "dirty/sample_0002"):
        for view in range(3):
            write_png(tmp_path / "input" / folder / f"{view}.png", np.full((4, 4, 3), 40 * view, np.uint8))
    for material in ("oak", "brick"):
        for spec in MAPS.values():
            write_map(tmp_path / "output" / material, spec, np.full((spec.channels, 4, 4), 128, np.uint8))
    names = {"sample_0000": "oak", "sample_0001": "brick", "sample_0002": "oak"}
    (tmp_path / "input/render_metadata.json").write_text(json.dumps(names))
    write_cameras(tmp_path / "input/cameras.json", dict.fromkeys(names, (CAMERA,) * 3))
    return tmp_path


def section(root, **changes):
    return replace(Data(root=str(root), render_curriculum=1, alignment="recorded"), **changes)


def ids(root, **changes):
    return [sample.id for sample in find_samples(section(root, **changes))]


@pytest.mark.parametrize(("clean", "mixed", "dirty"), [(0, 1, 2), ("clean", "mixed", "dirty")])
def test_curricula(root, clean, mixed, dirty):
    assert ids(root, render_curriculum=clean) == ["clean/sample_0000", "clean/sample_0001"]
    assert ids(root, render_curriculum=dirty) == ["dirty/sample_0001", "dirty/sample_0002"]
    assert ids(root, render_curriculum=mixed) == ids(root, render_curriculum=clean) + ids(root, render_curriculum=dirty)


def test_use_dirty_means_dirty_only():
    assert conditions(Data(use_dirty=True)) == ("dirty",)


def test_a_sample_knows_its_files(root):
    sample = find_samples(section(root))[1]
    assert (sample.condition, sample.material) == ("clean", "brick")
    assert sample.views == tuple(root / f"input/clean/sample_0001/{view}.png" for view in range(3))
    assert sample.maps["normal"] == root / "output/brick/normal.png"
    assert sample.cameras == (CAMERA,) * 3


def test_fewer_views_are_read_when_asked(root):
    sample = find_samples(section(root, views=2))[0]
    assert len(sample.views) == len(sample.cameras) == 2


def test_explicit_folders(root):
    data = Data(input_dir=str(root / "input"), output_dir=str(root / "output"))
    assert len(find_samples(data)) == 2
    (root / "input/render_metadata.json").rename(root / "names.json")
    assert len(find_samples(replace(data, metadata=str(root / "names.json")))) == 2


def test_no_folder_at_all():
    with pytest.raises(DataError, match=r"set data\.root, or data\.input_dir and data\.output_dir"):
        find_samples(Data(input_dir="somewhere"))


def test_missing_metadata_says_what_to_create(root):
    (root / "input/render_metadata.json").unlink()
    with pytest.raises(
        DataError, match=r'render_metadata\.json: no such file; create it: .*\{"sample_0000": "wood_oak"'
    ):
        find_samples(section(root))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"render_metadata\.json: is no JSON: line 1, column 2: Expecting property name"),
        ("[]", r"render_metadata\.json: is a JSON list; it must be a JSON object"),
        ('{"sample_0000": 3}', "sample_0000: 3 is not the name of a material folder"),
        (
            '{"sample_0000": "oak", "sample_0000": "brick"}',
            "key .sample_0000. appears 2 times; keep one of them; it must",
        ),
        ('{"sample_0000": "../oak"}', r"'../oak' is not the name of a material folder"),
    ],
)
def test_bad_metadata(root, text, message):
    (root / "input/render_metadata.json").write_text(text)
    with pytest.raises(DataError, match=message):
        find_samples(section(root))


def test_all_problems_come_at_once(root):
    names = {"sample_0000": "oka", "sample_0001": "brick"}
    (root / "input/render_metadata.json").write_text(json.dumps(names))
    (root / "input/clean/sample_0001/2.png").unlink()
    (root / "output/brick/normal.png").unlink()
    (root / "output/brick/albedo.png").unlink()
    write_cameras(root / "input/cameras.json", {"sample_0000": (CAMERA,) * 2, "sample_0001": (CAMERA,) * 3})
    with pytest.raises(DataError) as caught:
        find_samples(section(root))
    lines = [line.removeprefix(f"{root}/") for line in str(caught.value).splitlines()]
    assert len(lines) == 6
    assert lines[0].startswith("output/brick: albedo.png, normal.png missing; a material folder needs albedo.png, ")
    assert lines[1] == "output/oka: no such folder; sample_0000 needs it. Did you mean 'oak'?"
    assert lines[2].startswith("input/clean/sample_0000: ")
    assert lines[2].endswith("cameras.json has 2 of its 3 cameras; record one for each view")
    assert lines[3].startswith("input/clean/sample_0001: 2.png missing; data.views is 3, so a sample has 0.png, 1.png")
    assert lines[4].startswith("input/dirty/sample_0002: not in ")
    assert '; add "sample_0002": "<its folder in ' in lines[4]
    assert lines[5].endswith("cameras.json; record its cameras, or set data.alignment to none")


def test_images_of_another_format_are_found(root):
    (root / "input/clean/sample_0000/1.png").rename(root / "input/clean/sample_0000/1.JPG")
    (root / "input/clean/sample_0000/2.png").rename(root / "input/clean/sample_0000/2.heic")
    (root / "output/brick/albedo.png").rename(root / "output/brick/Albedo.tif")
    with pytest.raises(DataError) as caught:
        find_samples(section(root))
    maps, views = str(caught.value).splitlines()
    assert maps.endswith("normal.png. There is Albedo.tif; `neuropbr data import` makes PNG files of the right names")
    assert views.endswith("1.png, 2.png. There is 1.JPG, 2.heic: save it as PNG under the right name")


def test_usable_samples_remain_in_a_scan(root):
    (root / "input/clean/sample_0001/2.png").unlink()
    scan = scan_dataset(section(root))
    assert [sample.id for sample in scan.samples] == ["clean/sample_0000", "dirty/sample_0001", "dirty/sample_0002"]
    assert [(one.level, one.code, one.sample) for one in scan.findings] == [
        ("error", "missing-views", "clean/sample_0001")
    ]


def test_long_lists_are_cut(root):
    for index in range(100, 160):
        (root / f"input/clean/sample_{index:04d}").mkdir()
    with pytest.raises(DataError, match=r"… and 130 more; `neuropbr data check --json` lists all"):
        find_samples(section(root))


def test_nothing_found_says_why(root, tmp_path):
    for folder in (root / "input/clean").iterdir():
        folder.rename(root / folder.name.replace("sample", "gone"))
    with pytest.raises(
        DataError, match=r"clean: no samples found; .*dirty has some: set data\.render_curriculum to dirty"
    ):
        find_samples(section(root, render_curriculum=0))
    with pytest.raises(DataError, match=r"the folder .*elsewhere/input does not exist; set data\.root"):
        find_samples(section(tmp_path / "elsewhere"))
    (root / "input").rename(root / "photos")
    with pytest.raises(DataError, match=r"photograph the materials in .*/output, or render them with `neuropbr data"):
        find_samples(section(root))


def test_cameras_are_needed_only_when_recorded(root):
    (root / "input/cameras.json").unlink()
    assert find_samples(section(root, alignment="none"))[0].cameras is None
    with pytest.raises(DataError, match=r"cameras\.json: no such file; recorded alignment needs"):
        find_samples(section(root))


def test_cameras_round_trip(tmp_path):
    records = {"sample_0001": (CAMERA,), "sample_0000": (CAMERA, CAMERA)}
    write_cameras(tmp_path / "cameras.json", records)
    assert read_cameras(tmp_path / "cameras.json") == records


def test_impossible_cameras_are_named(tmp_path):
    below = CameraRecord(CAMERA.homography, (0.0, 0.0, -1.0))
    flat = CameraRecord(((1.0, 0.0, 0.0), (2.0, 0.0, 0.0), (0.0, 0.0, 1.0)), CAMERA.position)
    behind = CameraRecord(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (-2.0, 0.0, 1.0)), CAMERA.position)
    write_cameras(tmp_path / "cameras.json", {"sample_0000": (CAMERA, below), "sample_0001": (flat, behind)})
    with pytest.raises(DataError) as caught:
        read_cameras(tmp_path / "cameras.json")
    lines = str(caught.value).splitlines()
    assert "sample_0000, view 1: position z is -1" in lines[0]
    assert "sample_0001, view 0: the homography cannot be inverted" in lines[1]
    assert "sample_0001, view 1: the homography puts a corner of the texture behind the camera" in lines[2]


def test_malformed_cameras_give_the_place(tmp_path):
    text = '{"sample_0000": [{"homography": [[1, 0, 0], [0, "x", 0], [0, 0, 1]], "position": [0, 0, 1]}]}'
    (tmp_path / "cameras.json").write_text(text)
    with pytest.raises(DataError, match=r"\[0\]\.homography\[1\]\[1\]: Expected `float`, got `str`"):
        read_cameras(tmp_path / "cameras.json")


@pytest.mark.parametrize("keep", [0, 60, -1])
def test_truncated_files_are_refused_before_training(root, keep):
    for path in (root / "input/clean/sample_0001/2.png", root / "output/oak/normal.png"):
        path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as caught:
        find_samples(section(root))
    lines = [line.removeprefix(f"{root}/") for line in str(caught.value).splitlines()]
    assert lines == [
        "output/oak: normal.png truncated; restore from the source, or remove what uses it",
        "input/clean/sample_0001: 2.png truncated; restore from the source, or remove what uses it",
    ]


def test_bytes_after_a_whole_png_do_no_harm(root):
    path = root / "input/clean/sample_0001/2.png"
    path.write_bytes(path.read_bytes() + b"appended by some program")
    assert len(find_samples(section(root))) == 4
