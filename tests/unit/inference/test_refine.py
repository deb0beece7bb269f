"""Refinement on a small rendered capture: what photos tell is found, what they cannot tell stays."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.metrics import measure
from neuropbr_core.inference.refine import REFINE_STEPS, Priors, Refinement, linear_photos, refine, refined_confidence
from neuropbr_core.materials.alignment import identity_frame, taps_needed, warp_views
from neuropbr_core.materials.capture import render_capture
from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.materials.relight import Relighting, relight
from neuropbr_core.reporting import RecordingReporter, reporting_to

SIZE = 32


@dataclass(frozen=True)
class RenderedCapture:
    """Aligned photos of known maps, and a prediction that is wrong where photos can tell."""

    truth: Maps
    predicted: Maps
    photos: Tensor
    visible: Tensor
    positions: Tensor

    def refined(self, photos: int = 3, steps: int = REFINE_STEPS) -> Refinement:
        return refine(self.predicted, self.photos[:photos], self.positions[:photos], self.visible[:photos], steps=steps)

    def errors(self, maps: Maps) -> dict[str, float]:
        valid = self.visible.amin(dim=0)[None]
        return {name: float(value) for name, value in measure(maps, self.truth, valid).items()}


def noise(random: torch.Generator, channels: int, low: float, high: float) -> Tensor:
    coarse = torch.rand(1, channels, 8, 8, generator=random)
    return low + (high - low) * F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)


def photograph(truth: Maps, predicted: Maps, random: torch.Generator) -> RenderedCapture:
    """Render three photos of the true maps and align them."""
    rendered = render_capture(truth, 3, 2 * SIZE, random)
    homographies = torch.stack([camera.homography for camera in rendered.cameras])[None].float()
    taps = taps_needed(homographies, identity_frame(1), (2 * SIZE, 2 * SIZE), SIZE)
    photos, visible = warp_views(rendered.views[None].float() / 255, homographies, identity_frame(1), SIZE, taps)
    positions = torch.stack([camera.position for camera in rendered.cameras]).float()
    return RenderedCapture(truth, predicted, photos[0], visible[0], positions)


@pytest.fixture(scope="module")
def capture() -> RenderedCapture:
    random = torch.Generator().manual_seed(3)
    slopes = noise(random, 2, -0.15, 0.15)
    truth = {
        "albedo": noise(random, 3, 0.3, 0.7),
        "roughness": noise(random, 1, 0.35, 0.5),
        "metallic": torch.zeros(1, 1, SIZE, SIZE),
        "normal": F.normalize(torch.cat((slopes, torch.ones(1, 1, SIZE, SIZE)), dim=1), dim=1),
    }
    predicted = {
        "albedo": (F.avg_pool2d(truth["albedo"], 5, 1, 2, count_include_pad=False) * 0.9),
        "roughness": truth["roughness"] + 0.25,
        "metallic": torch.full((1, 1, SIZE, SIZE), 0.15),
        "normal": truth["normal"],
    }
    return photograph(truth, predicted, random)


def test_photos_improve_albedo_roughness_and_metallic_and_leave_normals(capture: RenderedCapture) -> None:
    refinement = capture.refined()
    before = capture.errors(capture.predicted)
    after = capture.errors(refinement.maps)
    assert after["albedo/psnr"] > before["albedo/psnr"] + 3
    assert after["roughness/mae"] < 0.6 * before["roughness/mae"]
    assert after["metallic/mae"] < before["metallic/mae"]
    # The predicted relief was right.
    assert after["normal/angle"] < 0.3
    assert refinement.error_after < 0.6 * refinement.error_before
    # The exposure of a clean capture is within 0.15 stops of the grey card's.
    assert (refinement.light.gains.log().abs() < 0.15).all()


def test_relief_that_the_photos_do_not_show_is_flattened(capture: RenderedCapture) -> None:
    pattern = 2 * (capture.truth["albedo"].mean(dim=1, keepdim=True) - 0.5)
    invented = F.normalize(torch.cat((pattern, -pattern, torch.ones_like(pattern)), dim=1), dim=1)
    flat = torch.zeros_like(invented)
    flat[:, 2] = 1
    truth = {**capture.truth, "normal": flat}
    flattened = photograph(truth, {**capture.predicted, "normal": invented}, torch.Generator().manual_seed(5))
    refinement = flattened.refined(steps=40)
    assert refinement.relief < 0.1
    assert (
        flattened.errors(refinement.maps)["normal/angle"] < 0.1 * flattened.errors(flattened.predicted)["normal/angle"]
    )


def with_slopes_times(capture: RenderedCapture, factor: float) -> RenderedCapture:
    normal = capture.truth["normal"]
    scaled = F.normalize(torch.cat((factor * normal[:, :2], normal[:, 2:]), dim=1), dim=1)
    return replace(capture, predicted={**capture.predicted, "normal": scaled})


def test_the_photos_tell_how_much_of_the_relief_is_there(capture: RenderedCapture) -> None:
    assert 0.9 < capture.refined(steps=40).relief < 1.1
    # Of a relief that is right, this careful capture shows about 1; the fit takes .9 for that.
    assert with_slopes_times(capture, 3).refined(steps=40).relief == pytest.approx(1 / 3 / 0.9, rel=0.15)


def test_what_photos_cannot_judge_keeps_its_relief(capture: RenderedCapture) -> None:
    steep = with_slopes_times(capture, 3)
    assert steep.refined(photos=1, steps=4).relief == 1
    # Each photo shows a part of its own.
    apart = torch.zeros_like(capture.visible)
    for index, rows in enumerate((slice(0, 10), slice(10, 21), slice(21, 32))):
        apart[index, :, rows] = 1
    assert replace(steep, visible=apart).refined(steps=1).relief == 1
    # Slopes that make less of a difference than the faults of photos, although these speak against them.
    assert with_slopes_times(capture, -0.0001).refined(steps=1).relief > 0.8
    assert with_slopes_times(capture, -1).refined(steps=1).relief == 0


def test_a_light_that_varies_over_the_photo_is_no_relief(capture: RenderedCapture) -> None:
    ramp = torch.linspace(0.7, 1.3, SIZE)
    photos = linear_to_srgb(srgb_to_linear(capture.photos) * torch.stack((ramp, ramp.flip(0), ramp))[:, None, None])
    # A broad bowl, which the ramps would speak for or against.
    bowl = 0.3 * torch.linspace(-1, 1, SIZE).expand(1, 1, SIZE, SIZE)
    slopes = torch.cat((bowl, torch.zeros_like(bowl)), dim=1)
    normal = capture.truth["normal"]
    bent = F.normalize(torch.cat((normal[:, :2] / normal[:, 2:] + slopes, torch.ones_like(bowl)), dim=1), dim=1)
    lit = replace(capture, photos=photos.clamp(0, 1), predicted={**capture.predicted, "normal": bent})
    assert lit.refined(steps=1).relief > 0.7


def test_photos_of_any_size_judge_relief_in_the_same_way(
    capture: RenderedCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    steep = with_slopes_times(capture, 3)
    whole = steep.refined(steps=4).relief
    assert whole < 0.6
    monkeypatch.setattr("neuropbr_core.inference.refine._CHUNK", 100)
    assert steep.refined(steps=4).relief == pytest.approx(whole, abs=1e-4)
    # Averaged over 2 × 2 texels, and without the last row and column of a side that two does not divide.
    monkeypatch.setattr("neuropbr_core.inference.refine._RELIEF_SIDE", SIZE // 2)
    assert steep.refined(steps=4).relief == pytest.approx(whole, abs=0.05)
    cut = replace(
        steep,
        predicted={name: value[..., 1:, 1:] for name, value in steep.predicted.items()},
        photos=steep.photos[..., 1:, 1:],
        visible=steep.visible[..., 1:, 1:],
    )
    assert cut.refined(steps=4).relief == pytest.approx(whole, abs=0.1)


def test_what_is_mostly_metal_is_not_tried_as_none(capture: RenderedCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    metal = replace(capture, predicted={**capture.predicted, "metallic": torch.full((1, 1, SIZE, SIZE), 0.9)})
    assert float(metal.refined(steps=60).maps["metallic"].mean()) > 0.5
    # So few steps lead out of metal from a start without it alone.
    monkeypatch.setattr("neuropbr_core.inference.refine._MOSTLY_METAL", 0.95)
    assert float(metal.refined(steps=60).maps["metallic"].mean()) < 0.1


def test_each_substance_gets_its_own_roughness() -> None:
    """A glossy and a rough substance, which were both predicted in between."""
    random = torch.Generator().manual_seed(4)
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE)
    left = (torch.arange(SIZE) % 16 < 8).float().expand(1, 1, SIZE, SIZE)
    truth = {
        "albedo": noise(random, 3, 0.3, 0.4) + 0.3 * left,
        "roughness": 0.3 + 0.5 * left,
        "metallic": torch.zeros(1, 1, SIZE, SIZE),
        "normal": flat,
    }
    predicted = {**truth, "roughness": torch.full((1, 1, SIZE, SIZE), 0.5)}
    after = photograph(truth, predicted, random).refined().maps["roughness"]
    rough = left > 0.5
    assert float(after[~rough].mean()) < 0.4
    assert float(after[rough].mean()) > 0.6


def test_a_mirror_is_not_taken_for_a_rough_surface() -> None:
    random = torch.Generator().manual_seed(5)
    truth = {
        "albedo": noise(random, 3, 0.05, 0.1),
        "roughness": torch.full((1, 1, SIZE, SIZE), 0.05),
        "metallic": torch.zeros(1, 1, SIZE, SIZE),
        "normal": torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE),
    }
    predicted = {**truth, "roughness": torch.full((1, 1, SIZE, SIZE), 0.3)}
    after = photograph(truth, predicted, random).refined().maps["roughness"]
    assert float(after.mean()) < 0.1


def test_the_residual_is_the_error_of_each_texel(capture: RenderedCapture) -> None:
    visible = capture.visible.clone()
    visible[:, :, :4] = 0
    residual = refine(capture.predicted, capture.photos, capture.positions, visible, steps=4).residual
    assert residual.shape == (1, 1, SIZE, SIZE)
    # Nothing speaks for maps that no photo shows.
    assert (residual[:, :, :4] == 1).all()
    assert 0 < float(residual[:, :, 4:].mean()) < 0.1


def test_confidence_falls_where_maps_do_not_explain_the_photos(capture: RenderedCapture, larger: Maps) -> None:
    photos = capture.photos.clone()
    # A reflection in one of the photos.
    photos[1, :, 8:16, 8:16] = 1
    refinement = refine(larger, photos, capture.positions, capture.visible, steps=20)
    confidence = refined_confidence(refinement)
    assert confidence.shape == (1, 1, 2 * SIZE, 2 * SIZE)
    assert 0 < float(confidence.min()) <= float(confidence.max()) <= 1
    inside = confidence[:, :, 20:28, 20:28]
    assert float(inside.mean()) < 0.6 * float(confidence.mean())


def test_it_is_deterministic(capture: RenderedCapture) -> None:
    first = capture.refined(steps=6)
    second = capture.refined(steps=6)
    for name, value in first.maps.items():
        assert torch.equal(value, second.maps[name])


def test_two_photos_do_no_damage(capture: RenderedCapture) -> None:
    before = capture.errors(capture.predicted)
    after = capture.errors(capture.refined(photos=2).maps)
    assert after["albedo/psnr"] > before["albedo/psnr"]
    assert after["roughness/mae"] < before["roughness/mae"]
    # Two photos hardly tell a little metal from none: the limit of any damage is 2 %.
    assert after["metallic/mae"] < 1.02 * before["metallic/mae"]


def test_one_photo_changes_albedo_alone(capture: RenderedCapture) -> None:
    maps = capture.refined(photos=1).maps
    # The predicted roughness is wrong here and one photo cannot tell, so its albedo gains nothing.
    assert capture.errors(maps)["albedo/psnr"] > capture.errors(capture.predicted)["albedo/psnr"] - 0.1
    for name in ("roughness", "metallic", "normal"):
        torch.testing.assert_close(maps[name], capture.predicted[name], atol=1e-5, rtol=0)


def test_photos_without_a_flash_leave_the_maps_as_they_are(capture: RenderedCapture) -> None:
    # The flash is there, but ten thousand times weaker than the light from around.
    lit = linear_photos(capture.truth, capture.positions, torch.full((3,), 1e4)) / 1e4
    with reporting_to(RecordingReporter()) as reporter:
        refinement = refine(capture.predicted, linear_to_srgb(lit.clamp(0, 1)), capture.positions, steps=60)
    assert isinstance(reporter, RecordingReporter)
    assert "without the flash" in reporter.lines[-1]
    for name, value in refinement.maps.items():
        assert torch.equal(value, capture.predicted[name])


def test_nine_photos_work(capture: RenderedCapture) -> None:
    photos = capture.photos.repeat(3, 1, 1, 1)
    refinement = refine(capture.predicted, photos, capture.positions.repeat(3, 1), steps=2)
    assert refinement.light.gains.shape == (9,)


class InterruptingReporter(RecordingReporter):
    """Presses Ctrl-C after some steps."""

    def bar(self, total: int, what: str, **options: object) -> "InterruptingReporter":
        self.left = 12
        assert (total, what) == (20, "refining")
        return self

    def advance(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        assert text.startswith("objective ")

    def close(self) -> None:
        self.left = -1


def test_an_interruption_keeps_the_best_so_far(capture: RenderedCapture) -> None:
    reporter = InterruptingReporter()
    with reporting_to(reporter):
        refinement = capture.refined(steps=20)
    assert refinement.steps == 12
    assert reporter.lines == ["refinement stopped after 12 of 20 steps; the best so far is kept"]
    assert capture.errors(refinement.maps)["albedo/psnr"] > capture.errors(capture.predicted)["albedo/psnr"]


def test_one_photo_whose_flash_did_not_fire_is_left(capture: RenderedCapture) -> None:
    alone = (capture.predicted, capture.photos[:1], capture.positions[:1], capture.visible[:1])
    with reporting_to(RecordingReporter()) as reporter:
        assert refine(*alone, steps=2, flash_fired=False).steps == 0
    assert isinstance(reporter, RecordingReporter)
    assert "without the flash" in reporter.lines[-1]
    assert refine(*alone, steps=2, flash_fired=None).steps == 2
    # Several photos show a flash, whatever a camera calls it.
    assert refine(capture.predicted, capture.photos, capture.positions, steps=2, flash_fired=False).steps == 2


@pytest.fixture
def larger(capture: RenderedCapture) -> Maps:
    maps = {}
    for name, value in capture.predicted.items():
        maps[name] = F.interpolate(value, scale_factor=2, mode="nearest")
    return maps


def test_maps_may_be_larger_than_photos(capture: RenderedCapture, larger: Maps) -> None:
    refined = refine(larger, capture.photos, capture.positions, capture.visible, steps=4).maps
    same_size = capture.refined(steps=4).maps
    assert refined["albedo"].shape == (1, 3, 2 * SIZE, 2 * SIZE)
    torch.testing.assert_close(F.avg_pool2d(refined["albedo"], 2), same_size["albedo"], atol=0.03, rtol=0)
    torch.testing.assert_close(refined["normal"].norm(dim=1), torch.ones(1, 2 * SIZE, 2 * SIZE))


def test_its_photos_are_those_of_the_renderer(capture: RenderedCapture) -> None:
    """The factors of the base colour sum up to the reflectance model, with lamp and eye at one point."""
    height = 1.7
    rendered = linear_photos(capture.truth, torch.tensor([[0.2, -0.1, height]]))
    place = (0.2, -0.1, height)
    expected = relight(capture.truth, Relighting(place, place))
    torch.testing.assert_close(rendered, 0.82 * expected, rtol=1e-3, atol=1e-4)
    # Under even light alone, a rough white dielectric shows about that light.
    white = {**capture.truth, "albedo": torch.ones_like(capture.truth["albedo"])}
    lit = linear_photos(white, torch.tensor([[0.0, 0.0, 1e3]]), torch.full((3,), 0.5))
    flash = linear_photos(white, torch.tensor([[0.0, 0.0, 1e3]]))
    torch.testing.assert_close((lit - flash).mean(), torch.tensor(0.5), rtol=0.03, atol=0)


def test_wrong_input_is_refused(capture: RenderedCapture) -> None:
    with pytest.raises(DataError, match="metallic missing"):
        refine({k: v for k, v in capture.predicted.items() if k != "metallic"}, capture.photos, capture.positions)
    with pytest.raises(DataError, match=r"photos \(V, 3, S, S\)"):
        refine(capture.predicted, capture.photos[0], capture.positions)
    with pytest.raises(DataError, match="the camera of each of 3 photos"):
        refine(capture.predicted, capture.photos, capture.positions[:2])
    with pytest.raises(DataError, match="z <= 0"):
        refine(capture.predicted, capture.photos, -capture.positions)
    with pytest.raises(DataError, match="visibility"):
        refine(capture.predicted, capture.photos, capture.positions, capture.visible[:2])


def test_the_command_line_offers_the_same_steps() -> None:
    from neuropbr_core.cli.infer import infer

    option = next(parameter for parameter in infer.params if parameter.name == "refine_steps")
    assert option.flag_value == REFINE_STEPS  # type: ignore[attr-defined]


def test_numbers_that_are_not_finite_are_refused(capture: RenderedCapture) -> None:
    albedo = capture.predicted["albedo"].clone()
    albedo[0, 0, 0, 0] = math.nan
    with pytest.raises(DataError, match="the map albedo has others"):
        refine({**capture.predicted, "albedo": albedo}, capture.photos, capture.positions)
    with pytest.raises(DataError, match="above 0; found 0"):
        refine(capture.predicted, capture.photos, capture.positions, priors=Priors(albedo=0.0))


def test_a_black_prediction_lights_up_no_neighbour_of_larger_maps(capture: RenderedCapture) -> None:
    """Half of the prediction is black by mistake; at the edge, the enlarged correction must not exceed both sides."""
    half = capture.truth["albedo"].clone()
    half[..., : SIZE // 2] = 0
    enlarged = {}
    for name, value in {**capture.truth, "albedo": half}.items():
        enlarged[name] = F.interpolate(value, scale_factor=4, mode="nearest")
    refined = refine(enlarged, capture.photos, capture.positions, capture.visible, steps=4).maps["albedo"]
    truth = F.interpolate(capture.truth["albedo"], scale_factor=4, mode="nearest")
    assert float((refined - truth).amax()) < 0.25
