import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from neuropbr_core.data.images import read_map
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.lint import lint_maps, normal_convention
from neuropbr_core.shipped import resolve

EXAMPLES = sorted(path for path in resolve("neuropbr:examples/materials").iterdir() if path.is_dir())


def example(folder):
    """Maps of an example material, normals as stored."""
    stored = {name: read_map(folder / spec.file_name, spec) for name, spec in MAPS.items()}
    ranges = {name: spec.value_range for name, spec in MAPS.items()}
    return {
        name: ranges[name][0] + (ranges[name][1] - ranges[name][0]) * image.astype(np.float32) / 255
        for name, image in stored.items()
    }


def flipped(normals):
    return normals * np.array([1, -1, 1], np.float32).reshape(3, 1, 1)


def from_heights(heights):
    """OpenGL normals of a height field `(H, W)`: x right, y up."""
    down, across = np.gradient(heights)
    normals = np.stack((-across, down, np.ones_like(heights)))
    return (normals / np.linalg.norm(normals, axis=0)).astype(np.float32)


def bumps(size=64):
    heights = np.random.default_rng(0).normal(size=(size, size))
    for _ in range(8):
        heights = (heights + np.roll(heights, 1, 0) + np.roll(heights, 1, 1) + np.roll(heights, (1, 1), (0, 1))) / 4
    return from_heights(8 * heights)


def codes(findings):
    return [(finding.level, finding.code, finding.map_name) for finding in findings]


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_real_materials_are_opengl_and_their_flipped_copies_directx(folder):
    normals = example(folder)["normal"]
    right, wrong = normal_convention(normals), normal_convention(flipped(normals))
    assert (right.name, wrong.name) == ("opengl", "directx")
    np.testing.assert_allclose(right[1:], -np.array(wrong[1:]))
    assert normal_convention(normals * np.array([-1, 1, 1]).reshape(3, 1, 1)).name == "directx"
    assert (
        normal_convention(np.rot90(normals, axes=(1, 2))[[1, 0, 2]] * np.float32([[[-1]], [[1]], [[1]]])).name
        == "opengl"
    )


def test_the_examples_are_all_there():
    assert len(EXAMPLES) == 8


def test_a_height_field_fits_one_reading_alone():
    convention = normal_convention(bumps())
    assert convention.name == "opengl"
    assert convention.correlation > 0.9  # apart from the differences being taken at other points


def test_the_length_of_normals_does_not_matter():
    assert normal_convention(bumps() * 0.3).name == "opengl"


def test_what_says_nothing_is_not_judged():
    flat = np.zeros((3, 64, 64), np.float32)
    flat[2] = 1
    assert normal_convention(flat) == (None, 0, 0)
    lines = from_heights(np.sin(np.arange(64) / 3)[None].repeat(64, 0))
    assert normal_convention(lines).name is None
    assert normal_convention(bumps()[:, :8, :8]).name is None


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_not_judged(seed):
    normals = np.random.default_rng(seed).normal(0, 0.1, (3, 128, 128)).astype(np.float32)
    normals[2] = 1
    assert normal_convention(normals).name is None


def test_examples_raise_no_doubts_but_known_ones():
    doubts = {folder.name: codes(lint_maps(example(folder))) for folder in EXAMPLES}
    assert {name: codes for name, codes in doubts.items() if codes} == {
        "acg_Metal053C": [("info", "metallic-not-binary", "metallic")],  # rust
        "t3_Sci-Fi_Wall_014": [("warning", "metallic-not-binary", "metallic")],  # 0.8 all over
    }


def test_flipped_examples_are_flagged_with_the_way_out():
    for folder in EXAMPLES:
        maps = {"normal": flipped(example(folder)["normal"])}
        (finding,) = lint_maps(maps)
        assert codes([finding]) == [("warning", "normal-directx", "normal")]
        assert "looks like DirectX (+Y down): its slopes belong to no surface as OpenGL" in finding.message
        assert "Invert the green channel" in finding.message


def test_tensors_are_taken_as_they_are():
    folder = EXAMPLES[0]
    stored = {name: torch.from_numpy(read_map(folder / spec.file_name, spec)) for name, spec in MAPS.items()}
    assert lint_maps({name: decode_map(MAPS[name], image) for name, image in stored.items()}) == []


def plain(name, value, size=32):
    return {name: np.full((MAPS[name].channels, size, size), value, np.float32)}


def two(name, first, second, share):
    """A map of two values; `share` of its rows have the first."""
    maps = plain(name, second, 100)
    maps[name][:, : round(100 * share)] = first
    return maps


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        (plain("albedo", 0.5), ("warning", "constant-albedo")),
        (two("albedo", 0.05, 0.5, 0.2), ("warning", "dark-albedo")),
        (two("albedo", 0.05, 0.5, 0.05), None),
        (two("albedo", 0.98, 0.5, 0.2), ("warning", "bright-albedo")),
        (two("albedo", 0.98, 0.5, 0.2) | two("metallic", 1, 0, 0.2), None),
        (plain("roughness", 0.5), ("info", "constant-roughness")),
        (two("roughness", 0.4, 0.6, 0.5), None),
        (plain("metallic", 0), None),
        (plain("metallic", 1), None),
        (two("metallic", 0.5, 1, 0.05), None),
        (two("metallic", 0.5, 1, 0.3), ("info", "metallic-not-binary")),
        (two("metallic", 0.5, 1, 0.8), ("warning", "metallic-not-binary")),
        (plain("metallic", np.nan), ("error", "not-finite")),
    ],
)
def test_each_doubt(maps, expected):
    assert [finding[:2] for finding in lint_maps(maps)] == ([] if expected is None else [expected])


def test_doubts_about_normals():
    normals = bumps()
    assert lint_maps({"normal": normals}) == []
    assert codes(lint_maps({"normal": normals * 0.8})) == [("warning", "normal-not-unit", "normal")]
    inward = normals * np.where(np.arange(64) < 16, -1, 1)
    assert ("warning", "normal-backwards", "normal") in codes(lint_maps({"normal": inward}))
    flat = np.zeros((3, 64, 64), np.float32)
    flat[2] = 1
    assert codes(lint_maps({"normal": flat})) == [("info", "flat-normal", "normal")]
    lines = from_heights(np.sin(np.arange(64) / 3)[None].repeat(64, 0))
    (finding,) = lint_maps({"normal": lines})
    assert finding[:2] == ("info", "normal-unclear")
    assert finding.message.startswith("cannot tell OpenGL from DirectX")


def test_a_damaged_map_does_not_hide_the_others():
    maps = plain("roughness", np.inf) | plain("albedo", 0.5)
    assert codes(lint_maps(maps)) == [("error", "not-finite", "roughness"), ("warning", "constant-albedo", "albedo")]


def test_wrong_maps_are_refused():
    with pytest.raises(DataError, match=r"'colour' is no map; the maps are albedo, roughness, metallic, normal"):
        lint_maps({"colour": np.zeros((3, 4, 4))})
    with pytest.raises(DataError, match=r"normal: found shape \(1, 3, 4, 4\); one material's map is \(3, H, W\)"):
        lint_maps({"normal": np.zeros((1, 3, 4, 4))})


def test_it_needs_no_torch():
    code = "import sys, neuropbr_core.materials.lint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("change", ["compressed", "smaller", "noisy", "cut"])
def test_what_damages_a_normal_map_makes_the_answer_uncertain_but_never_wrong(tmp_path, change):
    rng = np.random.default_rng(0)
    verdicts = []
    for folder in EXAMPLES:
        stored = np.moveaxis(read_map(folder / "normal.png", MAPS["normal"]), 0, 2)
        if change == "compressed":
            Image.fromarray(stored).save(tmp_path / "normal.jpg", quality=50)
            stored = np.asarray(Image.open(tmp_path / "normal.jpg"))
        elif change == "smaller":
            stored = np.asarray(Image.fromarray(stored).resize((64, 64), Image.Resampling.BOX))
        elif change == "noisy":
            stored = (stored + rng.normal(0, 8, stored.shape)).clip(0, 255)
        else:
            stored = stored[60:130, 60:130]
        verdicts.append(normal_convention(np.moveaxis(stored, 2, 0) / 127.5 - 1).name)
    assert "directx" not in verdicts
    assert verdicts.count("opengl") >= 4
