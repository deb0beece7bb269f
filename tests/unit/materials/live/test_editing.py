"""Cells are filled as their weights say, and edits reach them."""

import math

import numpy as np
import pytest

from neuropbr_core.materials.live.editing import (
    FLAT_SLOPE,
    BrightnessClass,
    Cell,
    RoughnessClass,
    cell_of,
    draw_cell,
    draw_edit,
)
from neuropbr_core.materials.live.mixing import draw_mask, mix
from neuropbr_core.materials.live.options import Brightness, Cells, Materials, Smoothness, unordered
from neuropbr_core.materials.live.textures import SurfaceValues, Traits


def bumpy(metallic: float, seed: int = 0, count: int = 4000) -> SurfaceValues:
    """A material with texture in all maps and a mean slope of about 12 degrees."""
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, 1, count)
    colour = np.array([0.5, 0.42, 0.3])[:, None] + 0.08 * grain
    return SurfaceValues(
        albedo=colour.clip(0, 1).astype(np.float32),
        roughness=(0.6 + 0.06 * rng.normal(0, 1, count)).clip(0, 1).astype(np.float32),
        metallic=np.full(count, metallic, np.float32),
        slopes=rng.normal(0, 0.17, (2, count)).astype(np.float32),
        spread=np.zeros(count, np.float32),
    )


def traits_of(values: SurfaceValues) -> Traits:
    return Traits(
        albedo=values.albedo.mean(1),
        roughness=float(values.roughness.mean()),
        roughness_deviation=float(values.roughness.std()),
        metallic=float(values.metallic.mean()),
        slope=float(np.hypot(*values.slopes).mean()),
    )


def test_cells_are_drawn_by_their_weights() -> None:
    cells = Cells(
        metal=0.3,
        flat=0.25,
        metal_roughness=Smoothness(2, 1, 1, 0),
        dielectric_roughness=Smoothness(1, 1, 2, 4),
        brightness=Brightness(1, 2, 1),
        dark_when_smooth=0.7,
    )
    rng = np.random.default_rng(0)
    drawn = [draw_cell(rng, cells) for _ in range(8000)]
    metals = [cell for cell in drawn if cell.metal]
    others = [cell for cell in drawn if not cell.metal]
    smooth = [cell for cell in others if cell.roughness <= RoughnessClass.POLISHED]
    dull = [cell for cell in others if cell.roughness > RoughnessClass.POLISHED]
    close = {"abs": 0.03}
    assert len(metals) / len(drawn) == pytest.approx(0.3, **close)
    assert np.mean([cell.flat for cell in drawn]) == pytest.approx(0.25, **close)
    for kind, weights in ((metals, (0.5, 0.25, 0.25, 0)), (others, (1 / 8, 1 / 8, 1 / 4, 1 / 2))):
        shares = np.bincount([cell.roughness for cell in kind], minlength=4) / len(kind)
        np.testing.assert_allclose(shares, weights, atol=0.03)
    assert np.mean([cell.brightness == BrightnessClass.DARK for cell in smooth]) == pytest.approx(0.7, **close)
    assert np.mean([cell.brightness == BrightnessClass.MID for cell in dull]) == pytest.approx(0.5, **close)


def test_by_default_smooth_dielectrics_are_as_frequent_as_smooth_metals() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_cell(rng, Cells()) for _ in range(8000)]
    smooth = [cell.metal for cell in drawn if cell.roughness <= RoughnessClass.POLISHED]
    assert np.mean(smooth) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("metallic", [0.0, 1.0])
def test_edits_reach_the_cell(metallic: float) -> None:
    """Every property of the drawn cell is reached by at least nine edits of ten, albedo within a small overlap."""
    values = bumpy(metallic)
    before = traits_of(values)
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(400):
        cell = draw_cell(rng, Cells())
        edited = draw_edit(rng, cell, before, Cells(), Materials()).apply(values)
        reached = cell_of(traits_of(edited))
        hits.append([got == wanted for got, wanted in zip(reached, cell, strict=True)])
    metal, flat, roughness, brightness = np.mean(hits, axis=0)
    assert metal == 1
    assert flat >= 0.98
    assert roughness >= 0.9
    assert brightness >= 0.9


def test_perfectly_flat_means_no_relief_at_all() -> None:
    values = bumpy(0.0)
    cell = Cell(True, True, RoughnessClass.MIRROR, BrightnessClass.BRIGHT)
    edit = draw_edit(np.random.default_rng(0), cell, traits_of(values), Cells(perfectly_flat=1.0), Materials())
    assert not edit.apply(values).slopes.any()


def test_relief_is_amplified_no_further_than_allowed() -> None:
    values = bumpy(0.0)
    gentle = values._replace(slopes=values.slopes * 0.02)
    cell = Cell(False, False, RoughnessClass.ROUGH, BrightnessClass.MID)
    rng = np.random.default_rng(0)
    for _ in range(50):
        edit = draw_edit(rng, cell, traits_of(gentle), Cells(), Materials(relief=(0.5, 2.0)))
        assert edit.relief <= 2


def test_edited_values_stay_plausible() -> None:
    values = bumpy(1.0)
    rng = np.random.default_rng(3)
    for _ in range(100):
        edited = draw_edit(rng, draw_cell(rng, Cells()), traits_of(values), Cells(), Materials()).apply(values)
        metal = edited.metallic[0] > 0.5
        low, high = (0.25, 1.0) if metal else (30 / 255, 240 / 255)
        assert edited.albedo.min() >= low - 1e-6
        assert edited.albedo.max() <= high + 1e-6
        assert edited.roughness.min() >= 0.02 - 1e-6
        assert edited.roughness.max() <= 1
        assert all(part.dtype == np.float32 for part in edited)


def test_flat_means_below_three_degrees() -> None:
    assert math.degrees(math.atan(FLAT_SLOPE)) == pytest.approx(3)


def test_a_hard_mask_takes_one_material_or_the_other() -> None:
    rng = np.random.default_rng(4)
    points = rng.random((5000, 2))
    first, second = bumpy(0.0, count=5000), bumpy(1.0, seed=1, count=5000)
    covered = []
    for _ in range(20):
        share = draw_mask(rng, hard=True).share(points, first.albedo)
        between = ((share > 0.1) & (share < 0.9)).mean()
        assert between < 0.12
        covered.append(share.mean())
        metallic = mix(first, second, share).metallic
        np.testing.assert_allclose(metallic, share, atol=1e-6)
    assert 0.2 < np.mean(covered) < 0.8


def test_ranges_in_the_wrong_order_are_named() -> None:
    assert list(unordered(Materials(zoom=(2.0, 1.0)), "data.source.editing.")) == [
        "data.source.editing.zoom: the range begins at 2 and ends at 1; swap them"
    ]
    assert list(unordered(Cells(brightness=Brightness(0, 0, 0)))) == [
        "brightness: all weights are 0; one must be above"
    ]
