import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from neuropbr_core.cli.data import data
from neuropbr_core.data.images import read_view, write_png
from neuropbr_core.data.layout.paths import list_photos, read_cameras
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.data.registration import stored
from neuropbr_core.data.registration.folders import PhotosOfSample, align_dataset, align_folder, register_sets
from neuropbr_core.data.registration.stored import ESTIMATED_NAME, estimate_cameras
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import DataError
from neuropbr_core.recipe.sections import Data, Synthesize


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Two captures of three views at 160 pixels, of stones and of bricks."""
    root = tmp_path_factory.mktemp("rendered")
    for name in ("t3_Pebbles_025", "acg_Bricks102"):
        shutil.copytree(Path(__file__).parents[4] / "examples/materials" / name, root / "materials" / name)
    synthesize(Synthesize(str(root / "materials"), samples=2, size=160, seed=3), root / "pool")
    return root / "pool"


@pytest.fixture
def pool(rendered, tmp_path):
    shutil.copytree(rendered, tmp_path / "pool")
    return tmp_path / "pool"


def section(root):
    return Data(root=str(root), image_size=160, output_size=160, alignment="estimated")


def estimate(root):
    return estimate_cameras(find_samples(section(root)), root / "input" / ESTIMATED_NAME)


def corners_in_view(record):
    corners = np.array([[0.1, 0.9, 0.1, 0.9], [0.1, 0.1, 0.9, 0.9], [1, 1, 1, 1]])
    seen = np.array(record.homography) @ corners
    return (seen[:2] / seen[2]).T


def assert_close_to_the_truth(cameras, truth):
    for name, records in truth.items():
        for found, true in zip(cameras[name], records, strict=True):
            np.testing.assert_allclose(corners_in_view(found), corners_in_view(true), atol=2 / 160)
            np.testing.assert_allclose(found.position, true.position, atol=0.05)


def blank(path):
    write_png(path, np.full((160, 160, 3), 128, np.uint8))


def test_samples_get_cameras_in_the_frame_of_their_true_maps(pool):
    samples = estimate(pool)
    found = {sample.id.split("/")[1]: sample.cameras for sample in samples}
    assert_close_to_the_truth(found, read_cameras(pool / "input/cameras.json"))


def test_estimates_are_kept_for_as_long_as_the_photos_are_the_same(pool, monkeypatch):
    calls = []

    def counted(sets):
        calls.append([found.photos[0].parent.name for found in sets])
        return register(sets)

    register = stored.register_sets
    monkeypatch.setattr(stored, "register_sets", counted)
    first = estimate(pool)
    assert estimate(pool) == first
    assert calls == [["sample_0000", "sample_0001"], []]
    photo = pool / "input/clean/sample_0001/2.png"
    write_png(photo, np.moveaxis(read_view(photo)[:, ::-1, ::-1], 0, -1))  # a phone turned upside down
    second = estimate(pool)
    assert calls[2:] == [["sample_0001"]]
    assert (second[0], second[1].cameras[2] != first[1].cameras[2]) == (first[0], True)
    file = pool / "input" / ESTIMATED_NAME
    kept = json.loads(file.read_text())
    assert kept["samples"]["clean/sample_0000"]["confidence"][1] > 0.3
    file.write_text("{")
    assert estimate(pool) == second
    file.write_text(json.dumps({**kept, "method": 0}))
    estimate(pool)
    assert calls[3:] == [["sample_0000", "sample_0001"], ["sample_0000", "sample_0001"]]


def test_refusals_are_kept_and_told_at_once(pool, monkeypatch):
    for name in ("sample_0000/1.png", "sample_0001/2.png"):
        blank(pool / "input/clean" / name)
    with pytest.raises(DataError) as caught:
        estimate(pool)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0][-17:] for line in lines] == ["sample_0000/1.png", "sample_0001/2.png"]
    assert "cannot be registered to" in lines[0]
    monkeypatch.setattr(stored, "register_sets", lambda sets: iter(assert_empty(sets)))
    with pytest.raises(DataError) as again:
        estimate(pool)
    assert str(again.value) == str(caught.value)


def assert_empty(sets):
    assert not sets
    return []


def test_a_folder_that_cannot_be_written_costs_time_only(pool, monkeypatch, caplog):
    def refuse(path, content):
        raise OSError("read-only file system")

    monkeypatch.setattr(stored, "write_json", refuse)
    with caplog.at_level(logging.WARNING):
        assert estimate(pool)[0].cameras
    assert "could not be written (read-only file system); the photos will be registered again" in caplog.text


def test_a_first_photo_that_does_not_show_the_albedo_is_taken_as_it_is(pool, caplog):
    blank(pool / "output/acg_Bricks102/albedo.png")
    with caplog.at_level(logging.WARNING):
        samples = estimate(pool)
    assert "'clean/sample_0000'" in caplog.text
    assert "'clean/sample_0001'" not in caplog.text
    assert samples[0].cameras[0].homography == ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def test_align_writes_the_cameras_of_a_dataset(pool):
    truth = read_cameras(pool / "input/cameras.json")
    with pytest.raises(DataError, match=r"cameras\.json: is there already; keep it, or replace it with --overwrite"):
        invoke(pool)
    result = invoke(pool, "--overwrite")
    assert result.exit_code == 0
    assert result.output.splitlines()[0].startswith("sample_0000: confidence ")
    assert result.output.endswith(f"wrote {pool / 'input/cameras.json'}\n")
    found = read_cameras(pool / "input/cameras.json")
    assert found != truth
    (pool / "input/cameras.json").unlink()
    again = align_dataset(pool).cameras
    for name, records in found.items():
        for one, other in zip(records, again[name], strict=True):
            np.testing.assert_allclose(one.homography, other.homography, atol=1e-6)
    assert_close_to_the_truth(again, truth)


def test_align_writes_what_it_can_and_fails(pool):
    (pool / "input/cameras.json").unlink()
    blank(pool / "input/clean/sample_0000/1.png")
    result = invoke(pool)
    assert result.exit_code == 1
    assert f"{pool / 'input/clean/sample_0000/1.png'}: cannot be registered" in result.output
    assert list(read_cameras(pool / "input/cameras.json")) == ["sample_0001"]
    blank(pool / "input/clean/sample_0001/1.png")
    (pool / "input/cameras.json").unlink()
    assert invoke(pool).exit_code == 1
    assert not (pool / "input/cameras.json").exists()


def test_align_writes_the_cameras_of_a_folder(pool):
    folder = pool / "input/clean/sample_0001"
    result = invoke(folder)
    assert result.exit_code == 0
    first = read_cameras(folder / "cameras.json")["sample_0001"][0]
    assert first.homography == ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def test_the_clean_photos_stand_for_the_dirty_ones(pool):
    shutil.copytree(pool / "input/clean/sample_0000", pool / "input/dirty/sample_0000")
    shutil.copytree(pool / "input/clean/sample_0000", pool / "input/dirty/sample_0007")
    blank(pool / "input/dirty/sample_0000/1.png")
    aligned = align_dataset(pool)
    assert sorted(aligned.cameras) == ["sample_0000", "sample_0001", "sample_0007"]
    assert aligned.problems == []


def test_folders_without_photos_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing: no such folder"):
        align_folder(tmp_path / "nothing")
    (tmp_path / "input").mkdir()
    with pytest.raises(DataError, match=r"holds no input/clean/sample_\* folders; name a dataset, or a folder"):
        invoke(tmp_path)


def test_photos_are_listed_by_number(tmp_path):
    for name in ("10.png", "9.png", "b.jpeg", "a.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_photos(tmp_path)] == ["9.png", "10.png", "a.JPG", "b.jpeg"]


def test_pipes_and_broken_links_are_named_and_not_waited_for(tmp_path, capsys):
    (tmp_path / "0.png").touch()
    (tmp_path / "1.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "2.heic")
    assert [path.name for path in list_photos(tmp_path)] == ["0.png"]
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}/1.png: not read: is no regular file, or a link to nothing",
        f"{tmp_path}/2.heic: not read: is no regular file, or a link to nothing",
    ]


def invoke(*arguments):
    return CliRunner().invoke(data, ["align", *map(str, arguments)], catch_exceptions=False)


def test_nothing_is_matched_under_transparent_pixels(pool, tmp_path):
    """Colours under transparency are arbitrary: the photo with noise there gives the cameras of the one without."""
    files = list_photos(pool / "input/clean/sample_0000")
    noise = np.random.default_rng(1)
    registered = []
    for folder, spoil in (("plain", False), ("spoilt", True)):
        (tmp_path / folder).mkdir()
        for file in files:
            pixels = np.moveaxis(read_view(file), 0, -1).copy()
            alpha = np.full(pixels.shape[:2], 255, np.uint8)
            alpha[:, :30] = 0
            if spoil:
                pixels[:, :30] = noise.integers(0, 256, pixels[:, :30].shape)
            Image.fromarray(np.dstack((pixels, alpha))).save(tmp_path / folder / file.name)
        registered.append(align_folder(tmp_path / folder).cameras[folder])
    assert registered[0] == registered[1]


def test_the_same_photos_always_give_the_same_cameras(pool):
    photos = PhotosOfSample(list_photos(pool / "input/clean/sample_0000"), pool / "output/acg_Bricks102/albedo.png")
    first, *others = register_sets([photos] * 12)
    assert others == [first] * 11
