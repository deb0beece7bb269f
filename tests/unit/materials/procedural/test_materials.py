import itertools
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.lint import lint_maps
from neuropbr_core.materials.procedural import catalog
from neuropbr_core.materials.procedural.canvas import Canvas, Draws
from neuropbr_core.materials.procedural.catalog import KINDS, generate, summaries
from neuropbr_core.materials.procedural.layers import develop
from neuropbr_core.materials.procedural.palette import METAL_F0

SEEDS = (0, 1, 2)
METALS = (
    "brushed_metal",
    "checker_plate",
    "rusty_metal",
    "painted_metal",
    "corrugated",
    "metal_panel",
    "hammered_metal",
)
QUICK = ("brushed_metal", "checker_plate", "fabric", "knit", "marble", "tiles")
PAGE = Path(__file__).parents[4] / "docs" / "procedural.md"


@cache
def generated(kind, seed, size=256):
    return generate(kind, seed, size)


def tilt(maps):
    return maps["normal"][0, 2].clamp(-1, 1).acos().rad2deg()


def differences(a, b):
    return {name: float((a[name] - b[name]).abs().mean()) for name in MAPS}


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_in_range_and_plausible(kind):
    for seed in SEEDS:
        maps = generated(kind, seed)
        for name, spec in MAPS.items():
            values = maps[name]
            assert (values.shape, values.dtype) == ((1, spec.channels, 256, 256), torch.float32)
            assert bool(values.isfinite().all())
            assert spec.value_range[0] <= float(values.min()) <= float(values.max()) <= spec.value_range[1]
        torch.testing.assert_close(maps["normal"].norm(dim=1), torch.ones(1, 256, 256))
        assert float(maps["normal"][:, 2].min()) > 0
        findings = lint_maps({name: values[0].numpy() for name, values in maps.items()})
        assert [finding for finding in findings if finding.level != "info"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_albedo_and_metallic_are_those_of_real_matter(kind):
    for seed in SEEDS:
        maps = generated(kind, seed)
        albedo, metallic = maps["albedo"][0], maps["metallic"][0, 0]
        assert float(albedo.min()) >= 30 / 255 - 1e-4
        stuff = albedo[:, metallic == 0]
        assert stuff.numel() == 0 or float(stuff.max()) <= 240 / 255 + 1e-4
        blended = ((metallic > 0.1) & (metallic < 0.9)).float().mean()
        assert float(blended) < 0.12
        bare = srgb_to_linear(albedo[:, metallic > 0.98])
        assert bare.numel() == 0 or 0.04 < float(bare.mean()) < 1
    if kind not in METALS:
        assert all(float(generated(kind, seed)["metallic"].max()) == 0 for seed in SEEDS)
    else:
        assert max(float(generated(kind, seed)["metallic"].mean()) for seed in SEEDS) > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_sensible(kind):
    for seed in SEEDS:
        degrees = tilt(generated(kind, seed))
        assert 0.1 < float(degrees.mean()) < 36
        assert float(degrees.flatten().quantile(0.99)) < 76


@pytest.mark.parametrize("kind", KINDS)
def test_generators_repeat_exactly(kind):
    """A tile sampled one tile farther along is the same tile."""
    generator = catalog._BY_NAME[kind]
    for seed in SEEDS:
        here, there = (Canvas(96, Draws(kind, seed)) for _ in range(2))
        there.u, there.v = there.u + 2, there.v + 1
        first, second = (develop(generator(canvas), 1) for canvas in (here, there))
        for name in MAPS:
            changed = (first[name] - second[name]).abs().amax(dim=1) > 0.02
            assert float(changed.float().mean()) < 2e-3, name


@pytest.mark.parametrize("kind", KINDS)
def test_seams_do_not_show(kind):
    """The step over the edge is about as large as the largest between neighbours inside, or smaller.

    A joint may lie on the edge itself, where it is sharper than one that is averaged over two pixels.
    """
    for seed, name, axis in itertools.product(SEEDS, MAPS, (2, 3)):
        values = generated(kind, seed)[name]
        steps = (values - values.roll(1, axis)).abs().mean(dim=(1, 5 - axis)).flatten()
        assert float(steps[0]) <= 1.3 * float(steps[1:].max()) + 2e-3, (seed, name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_changes_much(kind):
    again = generate(kind, SEEDS[0], 256)
    assert all(torch.equal(values, again[name]) for name, values in generated(kind, SEEDS[0]).items())
    for other in SEEDS[1:]:
        changes = differences(generated(kind, SEEDS[0]), generated(kind, other))
        assert changes["albedo"] + changes["roughness"] > 0.02
        assert changes["normal"] > 0.002


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_a_seed_is_one_material_at_every_size(kind):
    """Evaluated on 1024 samples and on 512, not averaged from the same ones."""
    coarse, fine = generate(kind, 0, 512), generate(kind, 0, 1024)
    pooled = {name: F.avg_pool2d(values, 2) for name, values in fine.items()}
    changes = differences(coarse, pooled)
    assert max(changes["albedo"], changes["roughness"]) < 0.01
    assert changes["metallic"] < 0.02
    assert float(tilt(coarse).mean()) == pytest.approx(float(tilt(fine).mean()), rel=0.25)
    apart = (coarse["normal"] * F.normalize(pooled["normal"], dim=1)).sum(1).clamp(-1, 1).acos().rad2deg()
    assert float(apart.mean()) < 0.35 * float(tilt(fine).mean())


def test_small_maps_are_averages_of_large_ones():
    small, large = generate("bricks", 3, 64), generate("bricks", 3, 256)
    linear = F.avg_pool2d(srgb_to_linear(large["albedo"]), 4)
    torch.testing.assert_close(srgb_to_linear(small["albedo"]), linear, atol=2e-5, rtol=0)
    torch.testing.assert_close(small["roughness"], F.avg_pool2d(large["roughness"], 4), atol=2e-6, rtol=0)
    assert generate("sand", 0, 300)["albedo"].shape == (1, 3, 300, 300)


@pytest.mark.parametrize("kind", KINDS)
def test_normals_are_those_of_the_height(kind):
    """Slopes read back from the normals integrate to the height that they were made from (Frankot, Chellappa 1988)."""
    layers = catalog._BY_NAME[kind](Canvas(128, Draws(kind, 1)))
    x, y, z = develop(layers, 1)["normal"][0].double()
    frequency = torch.fft.fftfreq(128, 1 / 128).double()
    across = 1j * 128 * torch.sin(2 * torch.pi * frequency / 128)[None, :]
    down = 1j * 128 * torch.sin(2 * torch.pi * frequency / 128)[:, None]
    p, q = torch.fft.fft2(-x / z), torch.fft.fft2(y / z)  # ∂h/∂u, ∂h/∂v
    power = (across.abs() ** 2 + down.abs() ** 2).clamp_min(1e-9)
    height = torch.fft.ifft2((across.conj() * p + down.conj() * q) / power).real
    spectrum = torch.fft.fft2(layers.height.double())
    expected = torch.fft.ifft2(
        torch.where(power > 1, spectrum, 0)
    ).real  # central differences do not see the checkerboard
    assert float((height - expected).abs().max()) < 1e-3 * float(expected.abs().max())


def test_roughness_and_metals_cover_what_a_network_must_tell_apart():
    means = [generated(kind, seed)["roughness"].mean() for kind, seed in itertools.product(KINDS, SEEDS)]
    roughness = torch.stack(means)
    assert float(roughness.min()) < 0.2
    assert float(roughness.max()) > 0.85
    assert len(KINDS) >= 12
    assert len(METALS) / len(KINDS) > 0.2


def test_wrong_requests():
    with pytest.raises(DataError, match=r"no procedural material 'brick'; there are: bricks, brushed_metal, "):
        generate("brick", 0, 64)
    with pytest.raises(DataError, match=r"procedural sand: found seed -1, size 0; seeds start at 0, sizes at 1"):
        generate("sand", -1, 0)


def test_reflectances_are_physical():
    for f0 in METAL_F0.values():
        assert all(0.3 < value <= 1 for value in f0)


def test_every_kind_is_in_the_docs():
    rows = [f"| `{name}` | {summary} |" for name, summary in summaries().items()]
    table = "\n".join(["| kind | what it is |", "| --- | --- |", *rows])
    assert table in PAGE.read_text(encoding="utf-8"), f"paste into {PAGE}:\n{table}"


def test_the_look_is_that_of_the_revision():
    """Coarse measures of seed 0. A deliberate change of a look raises `REVISION` and renews these numbers."""
    assert catalog.REVISION == 2
    for kind, expected in LOOKS.items():
        assert measures(kind) == pytest.approx(expected, abs=0.004), kind
    assert LOOKS.keys() == set(KINDS)


def measures(kind):
    maps = generated(kind, 0)
    steep = 1 - maps["normal"][:, 2]
    return tuple(round(float(values.mean()), 4) for values in (*list(maps.values())[:3], steep))


LOOKS = {
    "bricks": (0.5483, 0.8904, 0.0, 0.0686),
    "brushed_metal": (0.408, 0.432, 1.0, 0.0004),
    "planks": (0.4485, 0.437, 0.0, 0.02),
    "checker_plate": (0.5925, 0.4448, 0.8662, 0.0287),
    "fabric": (0.636, 0.6743, 0.0, 0.0112),
    "rusty_metal": (0.3538, 0.406, 0.7983, 0.0122),
    "tiles": (0.4077, 0.2012, 0.0, 0.0331),
    "plaster": (0.911, 0.755, 0.0, 0.0162),
    "painted_metal": (0.2809, 0.4561, 0.2281, 0.0111),
    "leather": (0.38, 0.4678, 0.0, 0.043),
    "concrete": (0.7248, 0.8582, 0.0, 0.0179),
    "corrugated": (0.4715, 0.3891, 0.9073, 0.0783),
    "pebbles": (0.439, 0.8726, 0.0, 0.1584),
    "terrazzo": (0.8628, 0.1701, 0.0, 0.0023),
    "metal_panel": (0.2876, 0.2915, 0.9576, 0.0253),
    "carbon": (0.1833, 0.1018, 0.0, 0.0025),
    "cobblestone": (0.3536, 0.826, 0.0, 0.1155),
    "hammered_metal": (0.8789, 0.2674, 0.9916, 0.0093),
    "marble": (0.8643, 0.0902, 0.0, 0.0),
    "shingles": (0.3844, 0.6785, 0.0, 0.0388),
    "soil": (0.2705, 0.5903, 0.0, 0.074),
    "parquet": (0.3741, 0.2541, 0.0, 0.0047),
    "asphalt": (0.2453, 0.6141, 0.0, 0.0321),
    "knit": (0.5189, 0.7744, 0.0, 0.1403),
    "sand": (0.5614, 0.8452, 0.0, 0.006),
}
