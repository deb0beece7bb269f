import itertools
import math

import numpy as np
import pytest
import torch

from neuropbr_core.materials.procedural.canvas import Canvas, Draws
from neuropbr_core.materials.procedural.cells import voronoi
from neuropbr_core.materials.procedural.courses import courses
from neuropbr_core.materials.procedural.layers import normals, slopes
from neuropbr_core.materials.procedural.noise import blur, fractal, gradient_noise, ridged, shift, swayed, value_noise
from neuropbr_core.materials.procedural.palette import ramp, shade
from neuropbr_core.materials.procedural.plates import _lugs
from neuropbr_core.materials.procedural.shaping import covering, mix, rounded, smoothstep
from neuropbr_core.materials.procedural.weaving import REPEAT, draft, woven


def canvas(size=128, seed=0):
    return Canvas(size, Draws("test", seed))


class FixedDraws(Draws):
    """Draws that answer with one table."""

    def __init__(self, table):
        super().__init__("fixed", 0)
        self.answer = table

    def table(self, *shape):
        assert self.answer.shape == shape
        return self.answer


def perlin(turns, x, y):
    """Gradient noise at one point, as Perlin 2002 defines it, on a lattice that wraps."""
    rows, columns = turns.shape
    column, row = math.floor(x), math.floor(y)
    total = 0.0
    for i, j in itertools.product((0, 1), (0, 1)):
        angle = 2 * math.pi * float(turns[(row + i) % rows, (column + j) % columns])
        dx, dy = x - column - j, y - row - i
        weight = math.prod(1 - (6 * abs(d) ** 5 - 15 * d**4 + 10 * abs(d) ** 3) for d in (dx, dy))
        total += weight * (math.cos(angle) * dx + math.sin(angle) * dy)
    return total


def test_gradient_noise_is_perlins():
    turns = Draws("lattice", 0).table(3, 5)
    noise = gradient_noise(Canvas(16, FixedDraws(turns)), 3, 5) * 0.21571
    expected = torch.zeros(16, 16)
    for v, u in itertools.product(range(16), range(16)):
        expected[v, u] = perlin(turns, (u + 0.5) / 16 * 5, (v + 0.5) / 16 * 3)
    torch.testing.assert_close(noise, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("noise", [gradient_noise, value_noise])
def test_a_lattice_wraps_exactly(noise):
    """Moving the lattice by a cell moves the noise by a cell, over the edge too."""
    lattice = Draws("lattice", 1).table(8, 4)
    still = noise(Canvas(64, FixedDraws(lattice)), 8, 4)
    moved = noise(Canvas(64, FixedDraws(lattice.roll((1, 1), (0, 1)))), 8, 4)
    torch.testing.assert_close(moved, still.roll((8, 16), (0, 1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("noise", [gradient_noise, value_noise])
def test_noise_has_mean_zero_and_deviation_one(noise):
    samples = torch.stack([noise(canvas(256, seed), 32, 32) for seed in range(4)])
    assert abs(float(samples.mean())) < 0.03
    assert float(samples.std()) == pytest.approx(1, abs=0.03)


def test_octaves_add_up_to_deviation_one_and_end_in_time():
    samples = torch.stack([fractal(canvas(256, seed), 8, 6, gain=0.7) for seed in range(8)])
    assert float(samples.std()) == pytest.approx(1, abs=0.06)
    torch.testing.assert_close(fractal(canvas(64), 64, 2), fractal(canvas(64), 64, 9))
    crests = ridged(canvas(), 4, 3)
    assert float(crests.max()) <= 1


def test_stretched_noise_is_longer_than_wide():
    along_u = fractal(canvas(256), 64, 1, stretch=16)
    along_v = fractal(canvas(256), 64, 1, stretch=1 / 16)
    for field, long, short in ((along_u, 1, 0), (along_v, 0, 1)):
        steps = [float((field - field.roll(1, axis)).square().mean()) for axis in (short, long)]
        assert steps[0] > 50 * steps[1]


def test_noise_does_not_depend_on_the_number_of_samples():
    fine, coarse = (fractal(canvas(size), 4, 3) for size in (512, 256))
    pooled = torch.nn.functional.avg_pool2d(fine[None], 2)[0]
    assert float((pooled - coarse).abs().max()) < 0.01


def test_blur_is_a_wrapped_gaussian():
    field = torch.zeros(64, 64)
    field[0, 0] = 1
    distance = torch.arange(64).sub(32).abs().roll(32) / 64
    kernel = torch.exp(-0.5 * (distance / 0.05).square())
    expected = torch.outer(kernel, kernel) / kernel.sum() ** 2
    torch.testing.assert_close(blur(field, 0.05), expected, atol=1e-5, rtol=0)


def test_shifting_by_whole_samples_rolls():
    field = fractal(canvas(64), 4, 3)
    shifted = shift(field, torch.full((64, 64), 3 / 64), torch.full((64, 64), -70 / 64))
    torch.testing.assert_close(shifted, field.roll((70, -3), (0, 1)), atol=2e-4, rtol=0)


def test_swayed_positions_stray_as_far_as_asked():
    tile = canvas(256)
    moves = [a - b for a, b in zip(swayed(tile, 8, 4, 0.01), tile.at, strict=True)]
    assert float(torch.stack(moves).std()) == pytest.approx(0.01, rel=0.2)


def test_voronoi_equals_a_search_over_all_points():
    count, tile = 5, canvas(48)
    cells = voronoi(tile.at, Draws("points", 3), count, jitter=0.8)
    points = 0.5 + 0.8 * (Draws("points", 3).table(2, count, count) - 0.5)
    grid = torch.arange(count).float()
    sites = torch.stack((points[0] + grid, points[1] + grid[:, None])).flatten(1) / count
    copies = torch.stack([sites + torch.tensor([[i], [j]]) for i, j in itertools.product((-1, 0, 1), repeat=2)])
    places = copies.movedim(1, 0).flatten(1)
    samples = torch.stack(tile.at).flatten(1)
    distances = torch.cdist(samples.T, places.T, compute_mode="donot_use_mm_for_euclid_dist")
    nearest, which = distances.min(dim=1)
    torch.testing.assert_close(cells.distance.flatten(), nearest, atol=1e-6, rtol=0)
    torch.testing.assert_close(cells.identity.flatten(), which % count**2)
    ways = places[:, None, :] - places[:, which][:, :, None]
    middles = (places[:, None, :] + places[:, which][:, :, None]) / 2 - samples[:, :, None]
    length = ways.norm(dim=0)
    border = ((middles * ways).sum(0) / length).masked_fill(length < 1e-6, torch.inf).amin(1)
    assert float((cells.border.flatten() - border).abs().gt(1e-5).float().mean()) < 0.01


def test_soft_borders_round_corners_and_keep_sides():
    tile = canvas(128)
    hard, soft = (voronoi(tile.at, Draws("x", 0), 4, jitter=0, corner=corner).border for corner in (0.0, 0.01))
    side, corner = (slice(15, 17), slice(31, 33)), (slice(31, 33), slice(31, 33))
    assert float((hard - soft).min()) > -1e-6
    assert float((hard - soft)[side].abs().max()) < 1e-5
    assert 0.01 * math.log(2) < float((hard - soft)[corner].mean()) < 0.01 * math.log(3) + 1e-3


def test_hexagons_have_six_equal_neighbours():
    tile = canvas(420)
    cells = voronoi(tile.at, Draws("x", 0), 14, jitter=0, hexagons=True)
    assert cells.total == 14 * 12
    assert torch.bincount(cells.identity.flatten(), minlength=cells.total).float().std() < 30
    assert float(cells.distance.max()) == pytest.approx(2 / math.sqrt(3) * float(cells.border.max()), rel=0.02)


@pytest.mark.parametrize(("bond", "jitter"), [(0.0, 0.0), (0.5, 0.2), (None, 0.45)])
def test_blocks_fill_the_tile_and_hold_their_samples(bond, jitter):
    tile = canvas(240)
    laid = courses(tile.at, Draws("wall", 2), 6, 5, bond=bond, jitter=jitter)
    assert torch.equal(laid.identity.unique(), torch.arange(30))
    assert bool((laid.across.abs() <= laid.half_width + 1e-6).all())
    assert bool((laid.down.abs() <= laid.half_height + 1e-6).all())
    areas = torch.bincount(laid.identity.flatten()) / 240**2
    widths = torch.zeros(30).scatter(0, laid.identity.flatten(), 2 * laid.half_width.flatten())
    torch.testing.assert_close(areas, widths / 6, atol=1 / 240 / 6 + 1e-6, rtol=0)
    assert float(widths.std()) > 0.02 or jitter == 0


def test_distance_to_a_blocks_outline():
    tile = canvas(100)
    laid = courses(tile.at, Draws("wall", 0), 1, 1, bond=0.0)
    inside = laid.inside(0.2, 0.1)
    row, column = torch.tensor([50, 50, 2]), torch.tensor([50, 2, 2])
    u, v = tile.at[0][row, column] - 0.5, tile.at[1][row, column] - 0.5
    straight = 0.4 - torch.maximum(u.abs(), v.abs())
    round_corner = 0.1 - torch.hypot(u.abs() - 0.3, v.abs() - 0.3)
    expected = torch.stack((straight[0], straight[1], round_corner[2]))
    torch.testing.assert_close(inside[row, column], expected)


@pytest.mark.parametrize("weave", ["plain", "basket", "twill", "herringbone", "satin"])
def test_weaves_hold_together(weave):
    over = draft(weave)
    assert over.shape == (REPEAT, REPEAT)
    assert all(set(line.tolist()) == {-1.0, 1.0} for line in (*over, *over.T)), "a thread that never crosses falls out"


def test_the_thread_on_top_is_the_draft_s():
    threads = woven(canvas(256).at, 8, "twill", 0.2)
    centres = torch.arange(16, 256, 32)
    assert torch.equal(threads.warp[centres][:, centres], draft("twill") > 0)
    assert torch.equal(threads.number.unique(), torch.arange(8))


@pytest.mark.parametrize(
    "structure",
    [
        lambda at: voronoi(at, Draws("x", 0), 6)[:3],
        lambda at: courses(at, Draws("x", 0), 6, 5, bond=0.5, jitter=0.2)[:3],
        lambda at: courses(at, Draws("x", 0), 5, 2, bond=None)[:3],
        lambda at: woven(at, 16, "herringbone", 0.5)[:3],
    ],
    ids=["voronoi", "courses", "random bond", "woven"],
)
def test_structures_repeat(structure):
    u, v = canvas(96).at
    for du, dv in ((1, 0), (0, -1), (3, 2)):
        for here, there in zip(structure((u, v)), structure((u + du, v + dv)), strict=True):
            torch.testing.assert_close(there.float(), here.float(), atol=2e-5, rtol=0)


def test_masks_cover_their_share():
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((400, 400))).float()
    for share in (0.05, 0.5, 0.9):
        assert float(covering(noise, share).mean()) == pytest.approx(share, abs=0.01)


def test_profiles():
    steps = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0])
    torch.testing.assert_close(smoothstep(0, 1, steps), torch.tensor([0, 0, 0.5, 1, 1]))
    torch.testing.assert_close(rounded(steps, 1), torch.tensor([0, 0, math.sqrt(0.5), 1, 1]))
    torch.testing.assert_close(mix(steps, 3.0, 0.5), steps / 2 + 1.5)


def test_shading_by_a_stop_doubles():
    torch.testing.assert_close(shade(torch.tensor([0.1, 0.2]), 1.0), torch.tensor([0.2, 0.4]))
    torch.testing.assert_close(shade(torch.tensor([0.1, 0.2]), -2.0), torch.tensor([0.025, 0.05]))


def test_a_ramp_runs_through_its_colours():
    colors = [torch.full((3, 1, 1), value) for value in (0.0, 0.4, 0.5)]
    positions = torch.tensor([[-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0]])
    expected = torch.tensor([0.0, 0.0, 0.2, 0.4, 0.45, 0.5, 0.5])
    torch.testing.assert_close(ramp(positions.expand(7, 7), colors)[0, 0], expected)


def test_lugs_are_lenses_of_their_length_and_width():
    """The distance is 0 at a lens's tips and half the width at its middle."""
    count = 4
    draws = Draws("lugs", 0)
    half_length, half_width = draws.uniform(0.42, 0.52), draws.uniform(0.1, 0.16)
    tile = Canvas(400, Draws("lugs", 0))
    inside = _lugs(tile, count)[100:200, :100] * count
    assert float(inside.max()) == pytest.approx(half_width, abs=0.01)
    # This cell's lug lies along one diagonal: its tips are at the half-length from the centre.
    diagonals = torch.stack((inside.diagonal(), inside.flip(1).diagonal()))
    along = diagonals[diagonals.sum(1).argmax()]
    reach = ((torch.arange(100) + 0.5) / 100 - 0.5).abs() * math.sqrt(2)
    assert float(along[(reach - half_length).abs().argmin()]) == pytest.approx(0, abs=0.01)


def test_slopes_and_normals_of_a_wave():
    """h = a sin(2π(u + 2v)); v points down, y up."""
    tile, a = canvas(256), 0.02
    phase = 2 * math.pi * (tile.u + 2 * tile.v)
    slope = slopes(a * phase.sin())
    steep = 2 * math.pi * a * phase.cos()
    torch.testing.assert_close(slope, torch.stack((steep, -2 * steep)), atol=2e-4, rtol=0)
    normal = normals(slope)
    torch.testing.assert_close(normal.norm(dim=0), torch.ones(256, 256))
    torch.testing.assert_close(-normal[:2] / normal[2], slope, atol=1e-5, rtol=1e-5)


def test_slopes_of_any_height_have_no_curl_and_no_mean():
    p, q = slopes(fractal(canvas(64), 4, 5).double())
    torch.testing.assert_close(slopes(p)[1], slopes(q)[0], atol=1e-9, rtol=0)
    assert abs(float(p.mean())) < 1e-12
    assert abs(float(q.mean())) < 1e-12


def test_draws_differ_by_kind_and_seed_and_repeat():
    pairs = list(itertools.product(("a", "b"), (0, 1)))
    first = [Draws(kind, seed).uniform(0, 1) for kind, seed in pairs]
    assert len(set(first)) == 4
    assert first == [Draws(kind, seed).uniform(0, 1) for kind, seed in pairs]
    draws = Draws("range", 0)
    assert {draws.integer(2, 4) for _ in range(60)} == {2, 3, 4}
    assert {draws.choice("xy") for _ in range(30)} == {"x", "y"}
    assert all(0.1 <= draws.log_uniform(0.1, 10) < 10 for _ in range(50))
    assert 20 < sum(draws.chance(0.3) for _ in range(200)) < 100
