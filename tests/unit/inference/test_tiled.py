"""Maps that are predicted tile by tile equal those of one piece, and take no more memory than the maps."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import small_run
import torch

from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import DataError, ModelError
from neuropbr_core.inference import LoadedGenerator, ViewSet, load_generator, predict_large, read_views
from neuropbr_core.inference import tiled as tiles
from neuropbr_core.inference.tiled import OVERLAP, sharpness, tile_starts
from neuropbr_core.memory import used_memory
from neuropbr_core.recipe.sections import Synthesize

ROOT = Path(__file__).parents[3]
LARGE = 448


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> ViewSet:
    root = tmp_path_factory.mktemp("capture")
    synthesize(Synthesize("neuropbr:examples/materials", samples=1, size=256, seed=3), root)
    return read_views(root / "input" / "clean" / "sample_0000")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedGenerator:
    run = small_run.save_run(tmp_path_factory.mktemp("runs") / "run", small_run.small_recipe())
    return load_generator(run)


@pytest.mark.parametrize(
    ("resolution", "tile", "overlap", "expected"),
    [(256, 256, 96, [0]), (128, 256, 96, [0]), (512, 256, 96, [0, 160, 256]), (416, 256, 96, [0, 160])],
)
def test_tiles_cover_the_frame(resolution: int, tile: int, overlap: int, expected: list[int]) -> None:
    assert tile_starts(resolution, tile, overlap) == expected


@pytest.mark.parametrize("which", ["random weights", pytest.param("the model that ships", marks=pytest.mark.slow)])
def test_borders_of_tiles_do_not_show(model: LoadedGenerator, views: ViewSet, which: str) -> None:
    """Steps of the tiled maps exceed those of the untiled ones by less than 1/255, at tile borders and elsewhere."""
    if which != "random weights":
        model = load_generator("neuropbr:flash-3")
    whole = predict_large(model, views, LARGE, tile=LARGE)
    tiled = predict_large(model, views, LARGE, tile=224)
    assert (whole.tiles, tiled.tiles) == (1, len(tile_starts(LARGE, 224, OVERLAP)) ** 2)
    assert tiled.tiles > 1
    for name, expected in whole.maps.items():
        found = tiled.maps[name]
        assert found.shape == expected.shape
        for axis in (2, 3):
            excess = found.diff(dim=axis).abs() - expected.diff(dim=axis).abs()
            assert excess.max() <= 1 / 255, name
        assert (found - expected).abs().max() <= 2 / 255, name
    assert tiled.sharpness == pytest.approx(whole.sharpness, rel=0.02)


def test_at_its_own_size_a_model_predicts_as_ever(model: LoadedGenerator, views: ViewSet) -> None:
    size = model.spec.image_size
    large = predict_large(model, views, size)
    for name, expected in model.predict(views).items():
        # The photos are reduced in two steps here, with a rounding to 8 bits between.
        torch.testing.assert_close(large.maps[name], expected, atol=0.02, rtol=0)


def test_plain_views_are_cut_too(views: ViewSet, tmp_path: Path) -> None:
    run = small_run.save_run(tmp_path / "run", small_run.small_recipe(*small_run.PLAIN))
    model = load_generator(run)
    photos = ViewSet(views.paths, views.images)
    whole = predict_large(model, photos, LARGE, tile=LARGE)
    tiled = predict_large(model, photos, LARGE, tile=224)
    for name, expected in whole.maps.items():
        assert (tiled.maps[name] - expected).abs().mean() < 2 / 255


def test_a_resolution_that_does_not_suit_is_refused(model: LoadedGenerator, views: ViewSet) -> None:
    stride = model.generator.encoder.strides[-1]
    with pytest.raises(ModelError, match=f"takes multiples of {stride} pixels, such as {LARGE} or {LARGE + stride}"):
        predict_large(model, views, LARGE + 1)


def test_too_little_memory_is_named_with_what_is_needed(model: LoadedGenerator, views: ViewSet) -> None:
    with pytest.raises(ModelError, match=r"need at least \d+\.\d\d GiB; give --max-memory at least this number"):
        predict_large(model, views, LARGE, max_memory=1)


def test_the_memory_that_is_asked_for_suffices(
    model: LoadedGenerator, views: ViewSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little free memory, the number in the message is one with which the same command works."""
    monkeypatch.setattr(tiles, "free_memory", lambda: 2**20)
    with pytest.raises(ModelError) as caught:
        predict_large(model, views, LARGE)
    needed = float(re.search(r"at least (\d+\.\d+) GiB", str(caught.value))[1])  # type: ignore[index]
    # Rounded to two digits, and the process may have grown meanwhile.
    assert predict_large(model, views, LARGE, max_memory=int((needed + 0.05) * 2**30)).maps


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_weights_of_tiles_add_up_wherever_the_last_tile_begins(stride: int) -> None:
    tile = 192
    overlap = -(-OVERLAP // stride) * stride
    for resolution in range(tile + stride, 3 * tile, stride):
        starts = tile_starts(resolution, tile, overlap)
        total = torch.zeros(resolution)
        for start, ramp in zip(starts, tiles._ramps(starts, tile, resolution), strict=True):
            total[start : start + tile] += ramp
        torch.testing.assert_close(total, torch.ones(resolution), atol=1e-5, rtol=0)


def test_tiles_smaller_than_what_they_share_are_refused(model: LoadedGenerator, views: ViewSet) -> None:
    with pytest.raises(ModelError, match=r"tile 96: tiles overlap by 96 pixels"):
        predict_large(model, views, LARGE, tile=96)


def test_less_memory_means_smaller_tiles(model: LoadedGenerator, views: ViewSet) -> None:

    frame = tiles._Frame(model, views, LARGE)
    enough = used_memory() + 2**30
    large = tiles._tile_side(frame, enough)
    small = tiles._tile_side(frame, used_memory() + 2**26)
    assert small < large


def test_views_without_cameras_are_refused(model: LoadedGenerator, views: ViewSet) -> None:
    with pytest.raises(DataError, match=r"put a cameras\.json into the folder"):
        predict_large(model, replace(views, homographies=None), LARGE)


def test_sharpness_is_that_of_the_photo_or_less() -> None:
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert sharpness(photo, photo) == pytest.approx(1)
    assert sharpness(photo / 2, photo) == pytest.approx(1)
    blurred = torch.nn.functional.avg_pool2d(photo, 3, 1, 1)
    assert sharpness(blurred, photo) < 0.5


PROGRAM = """
import resource, sys, torch
from neuropbr_core.inference import load_generator, predict_large, read_views
torch.set_num_threads(1)
model = load_generator(sys.argv[1])
views = read_views(sys.argv[2])
predict_large(model, views, 256, tile=192)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
maps = predict_large(model, views, int(sys.argv[3]), tile=192).maps
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(grown, sum(value.numel() * value.element_size() for value in maps.values()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_memory_grows_with_the_maps_alone(model: LoadedGenerator, views: ViewSet) -> None:
    run = model.checkpoint.parent.parent
    command = [sys.executable, "-c", PROGRAM, str(run), str(views.folder), "704"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    grown, maps = map(int, done.stdout.split())
    # Photos and inputs have the size of the photos, which are small here; allocators keep a little.
    assert grown <= maps * 1.3 + 2**24
