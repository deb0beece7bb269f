"""The benchmark that photographs with Mitsuba: its dataset is read like ours and shows the same scenes."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from neuropbr_core.data.images import read_view
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.materials.capture_kinds import CaptureKind
from neuropbr_core.recipe.sections import Data, Synthesize

pytest.importorskip("mitsuba", reason="the independent renderer is installed with the extra `dev`")

REPOSITORY = Path(__file__).parents[2]
KINDS: tuple[CaptureKind, ...] = ("flash", "auto", "offset", "no_flash", "far")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mitsuba_captures", REPOSITORY / "benchmarks/mitsuba_captures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mitsuba_shows_the_scenes_of_our_renderer_in_every_kind(benchmark: ModuleType, tmp_path: Path) -> None:
    materials = tmp_path / "materials"
    shutil.copytree(REPOSITORY / "examples/materials/acg_Bricks102", materials / "acg_Bricks102")
    plan = Synthesize(str(materials), samples=5, size=32, view_size=48, seed=3, kinds=KINDS)
    benchmark.write_captures(plan, tmp_path / "theirs", views=2, rays=25)
    synthesize(plan, tmp_path / "ours", views=2)
    samples = {}
    for name in ("ours", "theirs"):
        samples[name] = find_samples(Data(root=str(tmp_path / name), views=2, alignment="recorded"))
    for ours, theirs in zip(samples["ours"], samples["theirs"], strict=True):
        assert theirs.capture_kind == ours.capture_kind
        assert theirs.cameras == ours.cameras
        for own, other in zip(ours.views, theirs.views, strict=True):
            difference = (read_view(own).astype(float) - read_view(other)) / 255
            # Light of the surroundings is the split sum here and sampled there, so it agrees less well than the flash.
            assert -10 * np.log10(np.square(difference).mean()) > 30, (ours.capture_kind, own.name)
    with pytest.raises(SystemExit, match="is not empty"):
        benchmark.write_captures(plan, tmp_path / "theirs")
