"""What an export changes about the model, how files are judged, and the record beside them."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import small_run
import torch
from torch import nn

from neuropbr_core.contracts import ExportReport, ExportSpec, Maps
from neuropbr_core.errors import DataError, ExportError, ModelError, PluginBroken
from neuropbr_core.exporting import (
    PASS_MARKS,
    Comparison,
    PhotoSet,
    Signature,
    Subject,
    Verification,
    check_entries,
    compare,
    create_exporter,
    export_subject,
    make_subject,
    prepare_inputs,
    random_inputs,
    write_record,
)
from neuropbr_core.exporting.export import Views
from neuropbr_core.exporting.record import Record, read_record, record_path
from neuropbr_core.kinds import ExporterEntryOptions
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.cameras import nominal_cameras, project
from neuropbr_core.model import ModelSpec, build_generator
from neuropbr_core.registry import Registry, default_registry
from neuropbr_exporters.torchscript.exporter import TorchScriptExporter

Entry = ExporterEntryOptions
SR = ("model.decoder.super_resolution=2", "data.output_size=64")


def subject(*overrides: str, entry: Entry | None = None) -> Subject:
    spec = ModelSpec.from_recipe(small_run.small_recipe(*overrides))
    torch.manual_seed(0)
    return make_subject(build_generator(spec).eval(), spec, entry or Entry(), "export.x")


def test_an_entry_that_says_nothing_exports_the_model_itself() -> None:
    found = subject()
    assert found.changes == ()
    assert found.describe() == "the model"
    assert found.signature.inputs == ("views", "visible", "directions")
    assert subject(*small_run.ALIGNED).signature.inputs == ("views", "visible")
    assert subject(*small_run.PLAIN).signature.inputs == ("views",)


def test_resolution_views_and_bypass_change_sizes_and_say_so() -> None:
    found = subject(*SR, entry=Entry(resolution=48, super_resolution="bypass", views=4))
    inputs = random_inputs(found.signature)
    assert inputs["views"].shape == (1, 4, 3, 48, 48)
    assert found.predict(inputs)["normal"].shape == (1, 3, 48, 48)
    assert found.signature.output_size == 48
    assert [change.tag for change in found.changes] == ["48px", "4views", "no-sr"]
    assert found.describe() == (
        "the model with input of 48×48 pixels instead of 32, 4 views instead of 3, super-resolution bypassed"
    )
    kept = subject(*SR, entry=Entry(resolution=48))
    assert kept.predict(random_inputs(kept.signature))["albedo"].shape[-1] == kept.signature.output_size == 96


def test_bypassing_shares_the_weights_and_leaves_the_model_as_it_was() -> None:
    spec = ModelSpec.from_recipe(small_run.small_recipe(*SR))
    generator = build_generator(spec).eval()
    made = make_subject(generator, spec, Entry(super_resolution="bypass"))
    inputs = random_inputs(made.signature)
    assert generator(**inputs).maps["albedo"].shape[-1] == 64
    assert made.predict(inputs)["albedo"].shape[-1] == 32
    assert {id(p) for p in made.model.parameters()} < {id(p) for p in generator.parameters()}


@pytest.mark.parametrize(
    ("overrides", "entry", "message"),
    [
        ((), Entry(resolution=49), r"export\.x\.resolution: found 49, .* multiples of 2; the nearest is 48"),
        ((), Entry(super_resolution="bypass"), r"export\.x\.super_resolution: .* no super-resolution to bypass"),
        (
            small_run.PLAIN,
            Entry(geometry="nominal"),
            r"export\.x\.geometry: .* takes nothing but views; write `inputs`",
        ),
    ],
)
def test_what_the_model_cannot_be_changed_to_is_refused(overrides: tuple[str, ...], entry: Entry, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        subject(*overrides, entry=entry)


def test_entries_are_checked_before_training() -> None:
    with pytest.raises(ExportError, match=r"export\.torchscript\.resolution: found 49"):
        check_entries(small_run.small_recipe("export.torchscript.resolution=49"))
    check_entries(small_run.small_recipe("export.torchscript.resolution=48"))


def test_nominal_geometry_equals_the_model_given_that_geometry() -> None:
    nominal, plain = subject(entry=Entry(geometry="nominal")), subject()
    views = random_inputs(nominal.signature)["views"].repeat(2, 1, 1, 1, 1)
    positions = torch.stack([camera.position for camera in nominal_cameras(3)])
    x = (torch.arange(32) + 0.5) / 32 - 0.5
    points = torch.stack((x.expand(32, 32), -x[:, None].expand(32, 32), torch.zeros(32, 32)))
    towards = torch.nn.functional.normalize(positions[:, :, None, None] - points, dim=1).expand(2, 3, 3, 32, 32)
    expected = plain.predict({"views": views, "visible": torch.ones(2, 3, 1, 32, 32), "directions": towards})
    for name, value in nominal.predict({"views": views}).items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=0)
    assert nominal.signature.inputs == ("views",)
    with pytest.raises(ModelError, match="geometry built in"):
        nominal.model(views, torch.ones(2, 3, 1, 32, 32))


def test_nominal_cameras_look_from_above_then_from_sides_of_their_own() -> None:
    above, *tilted = nominal_cameras(4)
    assert above.position[:2].abs().max() < 1e-5
    angles = [math.degrees(math.acos(float(c.position[2] / c.position.norm()))) for c in tilted]
    assert angles == pytest.approx([30] * 3, abs=0.01)
    sides = [math.degrees(math.atan2(float(c.position[1]), float(c.position[0]))) % 360 for c in tilted]
    assert sides == pytest.approx([0, 120, 240], abs=0.01)
    for camera in (above, *tilted):
        corners = project(camera.homography, torch.tensor([[0.0, 0.0], [1, 0], [0, 1], [1, 1]]))
        assert corners.min() > -0.02
        assert corners.max() < 1.02


def test_what_a_view_does_not_see_is_filled_for_a_model_with_nominal_geometry() -> None:
    signature = subject(entry=Entry(geometry="nominal", views=2)).signature
    shifted = torch.eye(3)
    shifted[0, 2] = 0.5  # the right half of the texture lies outside the second photo
    images = [torch.full((3, 64, 64), level, dtype=torch.uint8) for level in (51, 153)]
    photos = PhotoSet(images, torch.stack((torch.eye(3), shifted)), torch.tensor([[0.0, 0, 1], [0, 0, 1]]))
    views = prepare_inputs(photos, signature)["views"]
    assert views[0, 1, 0, 16, 4] == pytest.approx(0.6)
    assert views[0, 1, 0, 16, 28] == pytest.approx(0.2)


def test_views_without_cameras_are_refused() -> None:
    with pytest.raises(DataError, match=r"there: this model was trained on aligned views.*--cameras"):
        prepare_inputs(PhotoSet([torch.zeros(3, 8, 8, dtype=torch.uint8)] * 3), subject().signature, where="there")


def maps(**changes: torch.Tensor) -> Maps:
    torch.manual_seed(1)
    return {name: torch.rand(1, spec.channels, 8, 8) for name, spec in MAPS.items()} | changes


def judge(precision: str, **changes: torch.Tensor) -> Verification:
    return Verification(precision, compare(maps(**changes), maps()), "the model", "a test")


class _Refusing(TorchScriptExporter):
    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        raise ExportError(f"{path}: the format has no such operator")


def test_an_exporters_error_names_the_final_path(tmp_path: Path) -> None:
    part = default_registry().choose("exporter", "torchscript", name="small")
    exporter = _Refusing(part.options)
    model = subject()
    views = Views(random_inputs(model.signature), "noise")
    with pytest.raises(ExportError) as caught:
        export_subject(model, part, exporter, tmp_path, origin={}, views=views)
    assert str(caught.value) == f"{tmp_path / 'small.pt'}: the format has no such operator"


def test_psnr_is_over_the_width_of_the_maps_range() -> None:
    truth = maps()
    found = compare({name: value + 0.01 for name, value in truth.items()}, truth)
    assert found["albedo"].psnr == pytest.approx(40.0, abs=1e-3)
    assert found["normal"].psnr == pytest.approx(40 + 20 * math.log10(2), abs=1e-3)
    assert found["albedo"].mean_difference == pytest.approx(0.01, abs=1e-6)
    assert compare(truth, truth)["albedo"] == Comparison(0.0, 0.0, 200.0)


def test_a_miss_says_which_mark_and_where() -> None:
    changed = maps()["roughness"].clone()
    changed[0, 0, 2, 5] += 0.25
    found = judge("fp16", roughness=changed)
    assert not found.passed
    (reason,) = found.reasons()
    assert reason.startswith(
        "the exported roughness differs from the model's: 30.1 dB (at least 55 is needed for fp16)"
    )
    assert "largest difference 0.25 (at most 0.0039), most at x 5, y 2: " in reason


def test_each_precision_has_its_mark() -> None:
    def passes(precision: str, error: float) -> bool:
        return judge(precision, albedo=maps()["albedo"] + error).passed

    assert {name: mark.psnr for name, mark in PASS_MARKS.items()} == {
        "fp32": 90,
        "fp16": 55,
        "palettised": 45,
        "image": 50,
    }
    assert [passes("fp32", 10**-e) for e in (4.4, 4.6)] == [False, True]
    assert [passes("fp16", 10**-e) for e in (2.7, 2.8)] == [False, True]
    assert [passes("palettised", 10**-e) for e in (2.2, 2.3)] == [False, True]
    assert [passes("image", 10**-e) for e in (2.4, 2.6)] == [False, True]


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (torch.full((1, 1, 8, 8), float("nan")), "the exported metallic is not finite in 100.00% of its values: a num"),
        (torch.rand(1, 1, 4, 4), "the exported metallic has the shape 1×1×4×4 instead of 1×1×8×8"),
    ],
)
def test_maps_that_cannot_be_compared_fail_with_the_reason(value: torch.Tensor, note: str) -> None:
    found = judge("palettised", metallic=value)
    assert found.reasons()[0].startswith(note)
    assert json.loads(json.dumps(found.plain(), allow_nan=False))["maps"]["metallic"]["psnr"] is None


def test_a_missing_map_fails() -> None:
    found = Verification("fp32", compare({}, {"albedo": torch.rand(1, 3, 4, 4)}), "the model", "a test")
    assert found.reasons() == ["the exported albedo is missing"]


def test_a_record_is_read_back(tmp_path: Path) -> None:
    file, record = tmp_path / "model.bin", Record("neuropbr:x", {"run": "naïve"}, {"MiB": "1"})
    file.write_bytes(b"model")
    assert read_record(file) is None
    write_record(file, record, judge("fp32"), report={"operators": {"conv": 3}})
    found = read_record(file)
    assert found is not None
    assert (found.exporter, found.metadata, found.details) == (record.exporter, record.metadata, record.details)
    assert found.verification["passed"] is True
    assert found.verification["report"] == {"operators": {"conv": 3}}
    assert found.sha256 == hashlib.sha256(b"model").hexdigest()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{}", r"missing required field `exporter`"),
        (b"[]", r"Expected `object`, got `array`"),
        (b"\xff", r"is not UTF-8"),
        (b"[" * 100_000, r"nested too deep"),
        (b'{"exporter": "x", "details": {}, "metadata": {"options": 3}}', r"metadata.*: Expected `str`, got `int`"),
        (
            b'{"exporter": "x", "details": {}, "metadata": {}, "sha265": ""}',
            r"unknown key sha265.*Did you mean 'sha256'",
        ),
    ],
)
def test_a_damaged_record_is_refused_with_file_and_key(text: bytes, said: str, tmp_path: Path) -> None:
    record_path(tmp_path / "model.bin").write_bytes(text)
    with pytest.raises(ExportError, match=rf"model\.bin\.verify\.json: .*{said}.*; remove it, or export"):
        read_record(tmp_path / "model.bin")


def test_a_signature_is_read_back() -> None:
    signature = Signature(3, 512, 512, 1024, "estimated", directed=True, geometry="nominal")
    assert Signature.read(signature.text()) == signature


CHANGING = """
import torch
from neuropbr_core.contracts import Exporter, ExportReport
from neuropbr_core.plugin import hookimpl
NEUROPBR_API = 1
class Changes(Exporter):
    suffix = ".xx"
    def export(self, model, spec, path):
        first = next(model.parameters()).data
        CHANGE
        path.touch()
        return ExportReport(path, self.precision)
    def load(self, path):
        raise ValueError("is read back")
@hookimpl
def create_exporter(options): return Changes()
"""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("first.neg_()", "its export changed the model that it was given"),
        ("first.copy_(first.flip(0))", "its export changed the model that it was given"),
        ("next(model.children()).train()", "its export changed the model that it was given"),
        ("model.count.add_(1)", "its export changed the model that it was given"),
        # The model's own NaN is no change.
        ("pass", "its load raised ValueError: is read back"),
    ],
)
def test_an_exporter_that_changes_the_model_is_refused(change: str, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "changing.py"
    file.write_text(CHANGING.replace("CHANGE", change))
    registry = Registry()
    registry.add_file(file)
    part = registry.choose("exporter", "changing")
    unchanged = subject()
    unchanged.model.register_buffer("constant", torch.tensor(torch.nan))
    unchanged.model.register_buffer("count", torch.tensor(1.0), persistent=False)
    views = Views(random_inputs(unchanged.signature), "random views")
    with pytest.raises(PluginBroken, match=fault):
        export_subject(unchanged, part, create_exporter(part), tmp_path / "out", origin={}, views=views)
