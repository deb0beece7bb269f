"""Drawn visits: their maps are as sharp as maps from files."""

import numpy as np
import pytest

from neuropbr_core.contracts import Crop
from neuropbr_core.data.synthesis.live.surroundings import open_surroundings
from neuropbr_core.data.synthesis.live.visits import Distributions, LiveVisits, TextureBank
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.live.options import Cameras, Cells, Light, Materials, Photos
from neuropbr_core.materials.live.textures import Texture, measure, pack_texels

SIDE, FRAME = 512, 256


def grainy_texture() -> Texture:
    """Grey grain, each texel a little like its neighbours, on a flat surface."""
    grain = np.random.default_rng(0).normal(0, 1, (SIDE, SIDE))
    for axis in (0, 1):
        grain = (np.roll(grain, 1, axis) + 2 * grain + np.roll(grain, -1, axis)) / 4
    maps = {name: np.full((spec.channels, SIDE, SIDE), 128, np.uint8) for name, spec in MAPS.items()}
    maps["albedo"] = np.broadcast_to((128 + 60 * grain).clip(0, 255), (3, SIDE, SIDE)).astype(np.uint8)
    maps["metallic"][:] = 0
    levels = pack_texels(maps)
    return Texture("grain", tuple(levels), measure(levels))


def contrast(texture: Texture, **options: object) -> float:
    """Deviation of the drawn albedo."""
    materials = Materials(real=1.0, natural=1.0, mix=0.0, **options)  # type: ignore[arg-type]
    visits = LiveVisits(
        TextureBank([texture]),
        open_surroundings(None, 2, 0),
        Distributions(Cells(), materials, Cameras(), Light(), Photos()),
        visits=1,
        share=1.0,
    )
    visit = visits.draw(np.random.default_rng(0), Crop(0, 0, 128, FRAME, 1, FRAME, 1))
    return float(visit.maps["albedo"].std())


@pytest.mark.parametrize(
    "options", [{"zoomed": 0.0, "turned": 1.0}, {"zoomed": 1.0, "zoom": (1.05, 1.05), "turned": 0.0}]
)
def test_maps_of_turned_and_zoomed_materials_are_as_sharp_as_averages(options: dict[str, object]) -> None:
    texture = grainy_texture()
    average = contrast(texture, zoomed=0.0, turned=0.0)
    assert contrast(texture, **options) == pytest.approx(average, rel=0.2)
