import json
from dataclasses import replace

import numpy as np
import pytest

from neuropbr_core.data.images import read_map, read_view, write_map
from neuropbr_core.data.layout import find_samples
from neuropbr_core.data.opening import ensure_captures
from neuropbr_core.data.synthesis import synthesize
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data, Synthesize


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    folder = tmp_path_factory.mktemp("materials")
    rng = np.random.default_rng(0)
    for material in ("brick", "oak"):
        for name, spec in MAPS.items():
            low, high = (128, 129) if name == "normal" else (60, 200)
            stored = rng.integers(low, high, (spec.channels, 32, 32), dtype=np.uint8)
            if name == "normal":
                stored[2] = 255
            write_map(folder / material, spec, stored)
    (folder / "LICENSES.md").write_text("not a material")
    return folder


@pytest.fixture
def plan(materials):
    return Synthesize(str(materials), samples=3, size=32, seed=4)


def pixels(root):
    """All written images by path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}


def test_the_pool_is_a_dataset(plan, materials, tmp_path):
    report = synthesize(plan, tmp_path, views=2)
    assert (report.rendered, report.kept) == (3, 0)
    samples = find_samples(Data(root=str(tmp_path), views=2, alignment="recorded"))
    assert [sample.material for sample in samples] == ["brick", "oak", "brick"]
    assert [len(sample.cameras) for sample in samples] == [2, 2, 2]
    assert read_view(samples[0].views[1]).shape == (3, 32, 32)
    for name, spec in MAPS.items():
        truth = read_map(materials / "oak" / spec.file_name, spec)
        np.testing.assert_array_equal(read_map(samples[1].maps[name], spec), truth)
    assert not list(tmp_path.rglob(".*"))


def test_samples_differ_and_the_seed_decides_them(plan, tmp_path):
    synthesize(plan, tmp_path / "a")
    synthesize(plan, tmp_path / "b")
    synthesize(replace(plan, seed=5), tmp_path / "c")
    a, b, c = (pixels(tmp_path / name) for name in "abc")
    assert a == b
    view = "input/clean/sample_0000/0.png"
    assert a[view] != c[view]
    assert a[view] != a[view.replace("0000", "0002")]
    assert (tmp_path / "a/input/cameras.json").read_text() == (tmp_path / "b/input/cameras.json").read_text()


def test_resuming_equals_one_go(plan, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    synthesize(replace(plan, samples=5), whole)
    synthesize(plan, parts)
    (parts / "input/clean/sample_0001/2.png").unlink()
    report = synthesize(replace(plan, samples=5), parts, resume=True)
    assert (report.rendered, report.kept) == (3, 2)
    assert pixels(parts) == pixels(whole)
    for name in ("cameras.json", "render_metadata.json", "synthesis.json"):
        assert (parts / "input" / name).read_text() == (whole / "input" / name).read_text()


def test_an_interruption_loses_only_the_sample_at_hand(plan, tmp_path):
    def interrupt(items, total, what):
        for count, item in enumerate(items):
            if count == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        synthesize(plan, tmp_path, progress=interrupt)
    assert len(json.loads((tmp_path / "input/render_metadata.json").read_text())) == 2
    assert synthesize(plan, tmp_path, resume=True).rendered == 1


def test_a_pool_is_not_overwritten_or_mixed(plan, tmp_path):
    synthesize(plan, tmp_path)
    with pytest.raises(DataError, match=r"holds rendered samples; continue with --resume, or choose another folder"):
        synthesize(plan, tmp_path)
    with pytest.raises(DataError, match="other settings: size 32 there, 64 wanted; seed 4 there, 9 wanted"):
        synthesize(replace(plan, size=64, seed=9), tmp_path, resume=True)
    (tmp_path / "input/synthesis.json").unlink()
    with pytest.raises(DataError, match="holds a dataset that was not rendered here"):
        synthesize(plan, tmp_path, resume=True)


def test_bad_materials_are_reported_together_before_any_work(plan, tmp_path):
    source = tmp_path / "materials"
    for material in ("a", "b", "c"):
        for spec in MAPS.values():
            write_map(source / material, spec, np.full((spec.channels, 8, 8), 128, np.uint8))
    broken = replace(plan, materials=str(source))
    for damaged in (source / "a/normal.png", source / "c/albedo.png"):
        damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"(?s)a/normal\.png: cannot be decoded.*c/albedo\.png: cannot be decoded"):
        synthesize(broken, tmp_path / "out")
    (source / "b/metallic.png").unlink()
    (source / "c/albedo.png").unlink()
    with pytest.raises(DataError, match=r"(?s)b: metallic\.png missing.*c: albedo\.png missing"):
        synthesize(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_without_materials(plan, tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder; give the folder that holds the material folders"):
        synthesize(replace(plan, materials=str(tmp_path / "none")), tmp_path)
    with pytest.raises(DataError, match="holds no material folders"):
        synthesize(replace(plan, materials=str(tmp_path)), tmp_path / "out")


def test_captures_are_rendered_once_and_announced(plan, tmp_path):
    data, said = Data(root=str(tmp_path / "pool"), synthesize=plan), []
    ensure_captures(data, said.append)
    assert len(said) == 1
    assert said[0].startswith("Rendering 3 captures of the materials in ")
    before = pixels(tmp_path / "pool")
    ensure_captures(data, said.append)
    assert len(said) == 1
    ensure_captures(replace(data, synthesize=replace(plan, samples=4)), said.append)
    assert said[1].startswith("Rendering 1 captures")
    assert before.items() < pixels(tmp_path / "pool").items()


def test_captures_other_than_the_recipes_are_refused(plan, tmp_path):
    data = Data(root=str(tmp_path), synthesize=plan)
    ensure_captures(data)
    with pytest.raises(DataError, match=r"other settings: views 3 there, 2 wanted; set another data\.root, or remove"):
        ensure_captures(replace(data, views=2))
    with pytest.raises(DataError, match="samples 3 there, 2 wanted"):
        ensure_captures(replace(data, synthesize=replace(plan, samples=2)))
    (tmp_path / "input/synthesis.json").unlink()
    with pytest.raises(DataError, match=r"holds a dataset that data\.synthesize did not render; remove that key"):
        ensure_captures(data)


def test_captures_need_a_root_of_their_own(plan):
    with pytest.raises(DataError, match=r"data\.synthesize needs data\.root"):
        ensure_captures(Data(synthesize=plan))
    with pytest.raises(DataError, match=r"remove data\.input_dir"):
        ensure_captures(Data(root="x", input_dir="y", synthesize=plan))


def test_nothing_happens_without_the_key(tmp_path):
    ensure_captures(Data(root=str(tmp_path / "absent")))
    assert not (tmp_path / "absent").exists()
