"""Whether textures tile, and how they are cut so that they do."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.relief import (
    integrate_slopes,
    normals_from_slopes,
    slopes_from_heights,
    slopes_from_normals,
)
from neuropbr_core.materials.seams import (
    OVERLAP,
    TILES_BELOW,
    close_borders,
    make_tileable,
    measure_seams,
    seam_score,
)
from neuropbr_core.shipped import shipped_root


def material(name: str) -> dict[str, Tensor]:
    from neuropbr_core.data.images import read_map

    folder = shipped_root() / "examples" / "materials" / name
    maps = {}
    for spec in MAPS.values():
        maps[spec.name] = decode_map(spec, torch.from_numpy(read_map(folder / spec.file_name, spec)))[None]
    return maps


def cropped(maps: dict[str, Tensor], side: int) -> dict[str, Tensor]:
    """The upper left part, which does not tile."""
    return {name: value[..., :side, :side].contiguous() for name, value in maps.items()}


def test_a_sine_tiles_and_a_ramp_does_not() -> None:
    x = (torch.arange(64) + 0.5) / 64
    sine = (0.5 + 0.4 * torch.sin(2 * math.pi * 2 * x)).expand(1, 64, 64)
    assert seam_score(sine) <= 1.3
    ramp = x.expand(1, 64, 64)
    # The border's step is 63 of those inside; invisible steps count as 1/255.
    assert seam_score(ramp) == pytest.approx((63 / 64 + 1 / 255) / (1 / 64 + 1 / 255), rel=1e-3)
    assert seam_score(ramp.transpose(1, 2)) == pytest.approx(seam_score(ramp))


def test_constant_maps_tile() -> None:
    assert seam_score(torch.full((3, 16, 16), 0.3)) == 1


@pytest.mark.parametrize("name", ["acg_Metal053C", "acg_Rock053", "t3_Pebbles_025", "t3_Wood_027"])
def test_scans_that_tile_are_told_from_crops_of_them(name: str) -> None:
    whole = material(name)
    assert measure_seams(whole).tiles
    assert not measure_seams(cropped(whole, 180)).tiles


@pytest.mark.parametrize("name", ["acg_Metal053C", "acg_Rock053", "acg_MetalPlates006", "t3_Pebbles_025"])
def test_a_cut_material_tiles(name: str) -> None:
    crop = cropped(material(name), 180)
    cut = make_tileable(crop)
    seams = measure_seams(cut)
    assert seams.worst <= TILES_BELOW < measure_seams(crop).worst
    for spec in MAPS.values():
        value = cut[spec.name]
        assert value.shape == crop[spec.name].shape
        low, high = spec.value_range
        assert low <= value.min()
        assert value.max() <= high
    torch.testing.assert_close(cut["normal"].norm(dim=1), torch.ones(1, 180, 180))


@pytest.mark.parametrize("seed", range(4))
def test_the_second_cut_leaves_no_break_at_the_border_of_the_first(seed: int) -> None:
    """Texel by texel, because the mean over the border does not show a break as wide as the strip."""
    coarse = torch.rand(1, 1, 14, 14, generator=torch.Generator().manual_seed(seed))
    grey = functional.interpolate(coarse, size=(180, 180), mode="bicubic").clamp(0, 1)
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 180, 180)
    maps = {"albedo": grey.expand(1, 3, 180, 180), "roughness": grey, "metallic": grey, "normal": flat}
    cut = make_tileable(maps)["roughness"][0]
    for values in (cut, cut.transpose(1, 2)):
        across = (values[:, :, 0] - values[:, :, -1]).abs()
        inside = (values[:, :, 1:] - values[:, :, :-1]).abs()
        assert across.max() <= inside.max()


def test_maps_of_a_texel_have_no_seams() -> None:
    assert seam_score(torch.rand(3, 1, 1)) == 0
    assert seam_score(torch.rand(3, 2, 2)) == 0


def test_what_is_far_from_a_seam_is_the_photo_itself() -> None:
    """The middle of the result is the input's, enlarged; normals lose their mean slope alone."""
    crop = cropped(material("t3_Pebbles_025"), 180)
    cut = make_tileable(crop)
    kept = 180 - round(180 * OVERLAP)
    # Where the strips end the cut is over: there the input's texel `i` is at `(i + 1/2) · 180 / kept`.
    for place in (60, 90, 120):
        there = int((place + 0.5) * 180 / kept)
        before = crop["albedo"][0, :, place - 3 : place + 4, place - 3 : place + 4].mean()
        after = cut["albedo"][0, :, there - 3 : there + 4, there - 3 : there + 4].mean()
        assert after == pytest.approx(float(before), abs=0.03)


def test_all_maps_are_cut_along_one_line() -> None:
    """Four maps that are the same picture are still the same picture afterwards."""
    grey = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 96, 96)
    cut = make_tileable({"albedo": grey.expand(1, 3, 96, 96), "roughness": grey, "metallic": grey, "normal": flat})
    torch.testing.assert_close(cut["roughness"], cut["metallic"])
    torch.testing.assert_close(cut["albedo"][:, :1], cut["roughness"])
    torch.testing.assert_close(cut["normal"], flat)


def test_normals_at_the_seam_are_those_of_one_height_map() -> None:
    crop = cropped(material("t3_Pebbles_025"), 180)
    cut = make_tileable(crop)
    slopes = slopes_from_normals(cut["normal"][0])
    assert slopes.mean(dim=(1, 2)).abs().max() < 0.05
    consistent = slopes_from_heights(integrate_slopes(slopes, periodic=True))
    error = (slopes - consistent).abs().mean(dim=0)
    # The upper border is a seam's neighbourhood wherever the path runs: it is no less consistent than the rest.
    strip = round(180 * OVERLAP)
    assert error[:strip, :strip].mean() <= error[strip:, strip:].mean()


def drifting(maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """A material as it is predicted: roughness and relief drift from one border to the other."""
    side = maps["albedo"].shape[-1]
    drift = torch.linspace(-0.2, 0.2, side)
    slopes = slopes_from_normals(maps["normal"][0]) + drift[:, None]
    return {
        "albedo": maps["albedo"],
        "roughness": maps["roughness"] * 0.5 + 0.25 + drift,
        "metallic": maps["metallic"],
        "normal": normals_from_slopes(slopes)[None],
    }


def test_borders_of_a_material_that_tiles_meet_and_its_errors_fall() -> None:
    truth = material("t3_Pebbles_025")
    predicted = drifting(truth)
    closed = close_borders(predicted)
    assert torch.equal(closed["albedo"], truth["albedo"])
    assert (closed["normal"].norm(dim=1) - 1).abs().max() < 1e-5
    for name in ("roughness", "normal"):
        assert seam_score(predicted[name][0]) > TILES_BELOW
        assert seam_score(closed[name][0]) < TILES_BELOW
    before = (predicted["normal"] - truth["normal"]).abs().mean()
    assert (closed["normal"] - truth["normal"]).abs().mean() < 0.7 * before
    # The detail and the mean are those of the prediction.
    assert closed["roughness"].mean() == pytest.approx(float(predicted["roughness"].mean()), abs=1e-3)
    inside = (slice(None), slice(None), slice(64, -64), slice(64, -64))
    steps = [maps["roughness"][inside].diff(dim=3) for maps in (closed, predicted)]
    assert (steps[0] - steps[1]).abs().max() < 0.005


def test_a_crop_keeps_its_borders() -> None:
    predicted = drifting(cropped(material("t3_Pebbles_025"), 180))
    closed = close_borders(predicted)
    for name, value in predicted.items():
        assert torch.equal(closed[name], value)


def test_flat_normals_stay_exactly_flat() -> None:
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    maps = {"albedo": torch.full((1, 3, 16, 16), 0.5), "normal": flat}
    assert torch.equal(close_borders(maps)["normal"], flat)


@pytest.mark.parametrize("name", ["acg_MetalPlates006", "acg_Bricks102", "t3_Sci-Fi_Wall_014"])
def test_true_maps_stay_as_they_are(name: str) -> None:
    truth = material(name)
    closed = close_borders(truth)
    assert all(torch.equal(closed[map_name], value) for map_name, value in truth.items())


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_an_albedo_that_shows_no_seam_tells_nothing(noise: float) -> None:
    """Plain or finely grained: its borders are as alike as any two lines, whether the relief tiles or not."""
    albedo = 0.5 + noise * (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) - 0.5)
    predicted = {"albedo": albedo, "roughness": torch.linspace(0.2, 0.8, 64).expand(1, 1, 64, 64)}
    assert seam_score(albedo[0]) < TILES_BELOW
    assert torch.equal(close_borders(predicted)["roughness"], predicted["roughness"])
