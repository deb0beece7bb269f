"""Refining samples to score them: it can be stopped, and samples without a flash are counted."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import save_run, small_recipe
from torch.nn import functional as F

from neuropbr_core import load_generator
from neuropbr_core.contracts import Maps
from neuropbr_core.data.batches.prepare import Prepared
from neuropbr_core.data.opening import open_samples
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.evaluation.heldout import prepared_frames
from neuropbr_core.exporting.inputs import Signature
from neuropbr_core.inference import Effort, predict_maps, read_views
from neuropbr_core.inference import refine as refine_module
from neuropbr_core.inference.flash import flash_share
from neuropbr_core.inference.scoring import data_of, model_name, predict_with, refine_frames
from neuropbr_core.materials.alignment import identity_frame, view_directions
from neuropbr_core.materials.seams import seam_score
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.shipped import DEFAULT_MODEL, shipped_root

SIZE = 16


@pytest.fixture
def maps() -> Maps:
    return {
        "albedo": torch.full((2, 3, SIZE, SIZE), 0.5),
        "roughness": torch.full((2, 1, SIZE, SIZE), 0.5),
        "metallic": torch.full((2, 1, SIZE, SIZE), 0.1),
        "normal": torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(2, 3, SIZE, SIZE),
    }


def signature(*, directed: bool = True) -> Signature:
    """Of a model that knows nothing of flashes."""
    return Signature(
        views=3, image_size=SIZE, photo_size=SIZE, output_size=SIZE, alignment="recorded", directed=directed
    )


def two_samples(maps: Maps) -> Prepared:
    """One sample with photos under a flash, and one whose photos look the same from everywhere."""
    positions = torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.0, 1.0], [-0.4, 0.4, 0.8]])
    first = {name: value[:1] for name, value in maps.items()}
    lit = refine_module.linear_photos(first, positions).clamp(0, 1)
    views = torch.stack((lit, torch.full_like(lit, 0.5)))
    ones = torch.ones(2, 3, 1, SIZE, SIZE)
    return Prepared(
        ids=["lit", "dull"],
        materials=["a", "b"],
        views=views,
        visible=ones,
        targets=maps,
        crop_to_texture=identity_frame(2),
        valid=ones[:, 0],
        positions=positions.expand(2, 3, 3),
    )


@pytest.mark.parametrize("directed", [True, False])
def test_samples_without_a_flash_are_counted_with_one_warning(maps: Maps, directed: bool) -> None:
    refine = refine_frames(3, signature(directed=directed))
    assert refine is not None
    with reporting_to(RecordingReporter()) as recorder:
        refined = refine.after(lambda _: maps)(two_samples(maps))
        assert isinstance(recorder, RecordingReporter)
        assert recorder.lines == []
        assert refine.count_unfitted(3, 2) == 1
        assert refine.count_unfitted(2, 2) == 0
    (line,) = recorder.lines
    assert "1 of 2 samples look as if they were photographed without the flash" in line
    assert torch.equal(refined["albedo"][1], maps["albedo"][1])
    assert not torch.equal(refined["albedo"][0], maps["albedo"][0])


def test_samples_are_turned_with_their_cameras(maps: Maps) -> None:
    """What is predicted from is a turned capture, light and all, and the maps are turned back."""
    shares: list[float] = []
    prepared = two_samples(maps)
    leaning = {**maps, "normal": F.normalize(torch.tensor([0.3, 0.0, 1.0]).view(1, 3, 1, 1).expand(2, 3, SIZE, SIZE))}

    def predict(turned: Prepared) -> Maps:
        assert turned.positions is not None
        share = flash_share(turned.views[0], turned.visible[0], turned.positions[0])
        assert share is not None
        shares.append(share.share)
        return leaning

    refine = refine_frames(1, signature())
    assert refine is not None
    refined = refine.after(predict)(prepared)
    assert shares == pytest.approx([shares[0]] * 4, abs=1e-3)
    # Four leanings to four sides are none.
    assert float(refined["normal"][1, :2].abs().max()) < 1e-6


@pytest.mark.parametrize("flash", [True, False, None])
def test_relief_without_a_flash_is_scored_as_users_get_it(
    maps: Maps, monkeypatch: pytest.MonkeyPatch, flash: bool | None
) -> None:
    steep = {**maps, "normal": F.normalize(torch.tensor([0.6, 0.0, 0.8]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE))}
    model = load_generator(f"neuropbr:{DEFAULT_MODEL}")
    monkeypatch.setattr(type(model), "signature", replace(model.signature, flash=flash))
    monkeypatch.setattr(type(model), "apply", lambda *_: steep)
    prepared = two_samples(maps)
    directions = view_directions(prepared.positions, identity_frame(2), SIZE)
    lit, dull = predict_with(model)(replace(prepared, directions=directions))["normal"]
    assert float(lit[0].mean()) == pytest.approx(0.6)
    # A model of photos without a flash, or of both, may see relief in them.
    assert float(dull[0].mean()) == pytest.approx(0.0 if flash else 0.6)


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two captures of pebbles, which tile: with a flash, and without."""
    root = tmp_path_factory.mktemp("captures")
    materials = root / "materials"
    materials.mkdir()
    (materials / "t3_Pebbles_025").symlink_to(shipped_root() / "examples/materials/t3_Pebbles_025")
    plan = Synthesize(str(materials), samples=2, size=256, view_size=384, seed=3, kinds=("flash", "no_flash"))
    synthesize(plan, root / "data")
    return root / "data"


@pytest.mark.parametrize("steps", [0, 2])
def test_scored_maps_are_those_that_users_get(captures: Path, steps: int) -> None:
    model = load_generator(f"neuropbr:{DEFAULT_MODEL}")
    samples, _ = open_samples(data_of(model.signature, captures))
    score = predict_with(model, finished=not steps)
    if refine := refine_frames(steps, model.signature):
        score = refine.after(score)
    cautious = []
    for prepared, sample in zip(prepared_frames(samples, torch.device("cpu")), samples.samples, strict=True):
        with torch.no_grad():
            scored = score(prepared)
        views = read_views(sample.views[0].parent)
        predicted = predict_maps(model, views, model.prepare(views), Effort(refine=steps))
        cautious.append(predicted.is_cautious)
        for name, value in predicted.maps.items():
            assert torch.allclose(scored[name], value, atol=2e-3), name
        # What nobody finished is something else: no maps of the network leave this place as they are.
        plain = model.apply(model.prepare(views))
        assert not torch.allclose(plain["roughness"], predicted.maps["roughness"], atol=2e-3)
        if not predicted.is_cautious:
            assert seam_score(predicted.maps["roughness"][0]) < 1 < seam_score(plain["roughness"][0])
    assert cautious == [False, True]


def test_ctrl_c_ends_the_scoring(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(refine_module._Search, "_descend", interrupt)
    refine = refine_frames(3, signature())
    assert refine is not None
    with pytest.raises(KeyboardInterrupt):
        refine.after(lambda _: maps)(two_samples(maps))


def test_a_checkpoint_has_the_name_of_its_run(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "mine", small_recipe())
    assert model_name(load_generator(folder)) == "mine"
    assert model_name(load_generator(folder / "checkpoints/epoch_0001")) == "mine"
    assert model_name(load_generator("neuropbr:flash-3")) == "flash-3"
