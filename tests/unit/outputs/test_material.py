"""Materials: read from folders, and the maps that are derived from them."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import encode_map
from neuropbr_core.outputs.material import DERIVED, Material, material_name, read_material, resample_maps
from neuropbr_core.testing import example_material


def save(material: Material, folder: Path, levels: int = 255) -> Path:
    folder.mkdir()
    for name, spec in MAPS.items():
        stored = encode_map(spec, material.maps[name][0], levels).permute(1, 2, 0).numpy()
        pixels = stored.astype(np.uint8 if levels == 255 else np.uint16)[..., ::-1]
        cv2.imwrite(str(folder / spec.file_name), pixels)
    return folder


@pytest.mark.parametrize("levels", [255, 65535])
def test_maps_are_read_with_all_their_bits(tmp_path: Path, levels: int) -> None:
    material = example_material()
    read = read_material(save(material, tmp_path / "rusty plate", levels))
    assert read.name == "rusty_plate"
    for name, value in material.maps.items():
        torch.testing.assert_close(read.maps[name], value, atol=2.1 / levels, rtol=0)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = save(example_material(), tmp_path / "maps")
    (folder / "normal.png").unlink()
    (folder / "metallic.png").unlink()
    with pytest.raises(DataError, match=r"has no metallic\.png, normal\.png"):
        read_material(folder)
    with pytest.raises(DataError, match="no such folder; name one that has albedo"):
        read_material(tmp_path / "nowhere")


def test_sizes_must_agree(tmp_path: Path) -> None:
    folder = save(example_material(), tmp_path / "maps")
    cv2.imwrite(str(folder / "roughness.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match="is 8×8 pixels; maps are square and of one size, and the albedo is 16 wide"):
        read_material(folder)


def test_a_grey_normal_map_is_refused(tmp_path: Path) -> None:
    folder = save(example_material(), tmp_path / "maps")
    cv2.imwrite(str(folder / "normal.png"), np.zeros((16, 16), np.uint8))
    with pytest.raises(DataError, match="is grey; a normal map has three channels"):
        read_material(folder)


def test_derived_maps_are_in_range() -> None:
    material = example_material(64)
    for name in DERIVED:
        layer = material.layer(name)
        assert layer.shape == (1, 64, 64)
        assert layer.min() >= 0
        assert layer.max() <= 1
    assert material.layer("height").max() == 1
    assert material.relief > 0


def waves(side: int, phase: float = 0.0) -> Material:
    """One period of a sine in all maps but the normals, which are flat."""
    x = torch.arange(side) / side * 2 * torch.pi
    wave = (0.5 + 0.3 * torch.sin(x + phase)).view(1, 1, 1, side).expand(1, 1, side, side)
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, side, side)
    colour = wave.expand(1, 3, side, side)
    return Material("wave", {"albedo": colour, "roughness": wave, "metallic": wave, "normal": flat})


def test_a_material_that_tiles_is_not_cut() -> None:
    material = waves(32)
    assert material.tileable() is material
    half = Material("half", {name: value[..., :20, :20] for name, value in material.maps.items()})
    assert half.tileable().tiling == "cut"


def test_resampling_keeps_a_material_tiling() -> None:
    material = waves(64, phase=1)
    small = material.resized(16)
    assert small.size == 16
    expected = 0.5 + 0.3 * torch.sin((torch.arange(16) + 0.5) / 16 * 2 * torch.pi + 1 - torch.pi / 64)
    torch.testing.assert_close(small.maps["roughness"][0, 0, 0], expected, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("text", "name"),
    [("rusty plate-2", "rusty_plate_2"), ("../etc", "etc"), ("2K", "material_2K"), ("A", "A"), ("", "material")],
)
def test_names_fit_every_program(text: str, name: str) -> None:
    assert material_name(text) == name


def test_names_in_other_scripts_are_told_apart() -> None:
    names = {material_name(text) for text in ("木材", "石", "…", "\udce9")}
    assert len(names) == 4
    assert all(re.fullmatch(r"material_[0-9a-f]{8}", name) for name in names)


def test_it_is_the_lanczos_of_an_image_program() -> None:
    """Within the two roundings to 8 bits (one a pass), Pillow's own result on the stored image."""
    random = np.random.default_rng(0)
    stored = Image.fromarray(random.integers(60, 200, (24, 24, 3), dtype=np.uint8))
    value = torch.from_numpy(np.array(stored)).permute(2, 0, 1)[None] / 255
    found = resample_maps({"albedo": value}, 64)["albedo"]
    expected = np.asarray(stored.resize((64, 64), Image.Resampling.LANCZOS), np.float32) / 255
    assert found.shape == (1, 3, 64, 64)
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=1.5 / 255)


def test_overshoot_is_cut_and_normals_stay_unit_vectors() -> None:
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 1
    roughness = resample_maps({"roughness": edge}, 32)["roughness"]
    assert roughness.min() == 0
    assert roughness.max() == 1
    normal = torch.nn.functional.normalize(torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    found = resample_maps({"normal": normal}, 20)["normal"]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(1, 20, 20))


def test_the_same_size_changes_nothing() -> None:
    value = torch.rand(1, 1, 8, 8)
    assert resample_maps({"metallic": value}, 8)["metallic"] is value
