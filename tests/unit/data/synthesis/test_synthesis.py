import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from neuropbr_core.data.images import read_map, read_view, write_map
from neuropbr_core.data.layout.scan import find_samples
from neuropbr_core.data.opening import ensure_captures
from neuropbr_core.data.synthesis.capture_folder import CaptureFolder
from neuropbr_core.data.synthesis.render import plan_settings, synthesize
from neuropbr_core.errors import DataError, DeviceError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data, Synthesize
from neuropbr_core.reporting import RecordingReporter, SilentReporter, reporting_to


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    folder = tmp_path_factory.mktemp("materials")
    rng = np.random.default_rng(0)
    for material in ("brick", "oak"):
        for name, spec in MAPS.items():
            low, high = (128, 129) if name == "normal" else (60, 200)
            stored = rng.integers(low, high, (spec.channels, 32, 32), dtype=np.uint8)
            if name == "normal":
                stored[2] = 255
            write_map(folder / material, spec, stored)
    (folder / "LICENSES.md").write_text("not a material")
    return folder


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("environments")
    rng = np.random.default_rng(1)
    for name in ("yard", "hall"):
        assert cv2.imwrite(str(folder / f"{name}.hdr"), rng.uniform(0.1, 4, (16, 32, 3)).astype(np.float32))
    return folder


@pytest.fixture
def rich(plan, environments):
    """A plan with every option."""
    return replace(plan, environments=str(environments), dirty_fraction=0.5, view_size=48, kinds=("no_flash",))


@pytest.fixture
def plan(materials):
    return Synthesize(str(materials), samples=3, size=32, seed=4)


RECORDS = ("cameras.json", "captures.json", "render_metadata.json", "synthesis.json")


def pixels(root):
    """All written images by path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}


def test_the_pool_is_a_dataset(plan, materials, tmp_path):
    report = synthesize(plan, tmp_path, views=2)
    assert (report.rendered, report.kept) == (3, 0)
    samples = find_samples(Data(root=str(tmp_path), views=2, alignment="recorded"))
    assert [sample.material for sample in samples] == ["brick", "oak", "brick"]
    assert [len(sample.cameras) for sample in samples] == [2, 2, 2]
    assert read_view(samples[0].views[1]).shape == (3, 32, 32)
    for name, spec in MAPS.items():
        truth = read_map(materials / "oak" / spec.file_name, spec)
        np.testing.assert_array_equal(read_map(samples[1].maps[name], spec), truth)
    assert not list(tmp_path.rglob(".*"))


def test_samples_differ_and_the_seed_decides_them(plan, tmp_path):
    synthesize(plan, tmp_path / "a")
    synthesize(plan, tmp_path / "b")
    synthesize(replace(plan, seed=5), tmp_path / "c")
    a, b, c = (pixels(tmp_path / name) for name in "abc")
    assert a == b
    view = "input/clean/sample_0000/0.png"
    assert a[view] != c[view]
    assert a[view] != a[view.replace("0000", "0002")]
    assert (tmp_path / "a/input/cameras.json").read_text() == (tmp_path / "b/input/cameras.json").read_text()


def test_resuming_equals_one_go(plan, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    synthesize(replace(plan, samples=5), whole)
    synthesize(plan, parts)
    (parts / "input/clean/sample_0001/2.png").unlink()
    report = synthesize(replace(plan, samples=5), parts, resume=True)
    assert (report.rendered, report.kept) == (3, 2)
    assert pixels(parts) == pixels(whole)
    for name in RECORDS:
        assert (parts / "input" / name).read_text() == (whole / "input" / name).read_text()


def test_resuming_equals_one_go_with_every_option(rich, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    report = synthesize(replace(rich, samples=6), whole)
    assert (report.rendered, report.dirty) == (6, 3)
    synthesize(replace(rich, samples=4), parts)
    (first, *_) = sorted((parts / "input/dirty").iterdir())
    (first / "0.png").unlink()
    report = synthesize(replace(rich, samples=6), parts, resume=True)
    assert report.kept == 3
    assert pixels(parts) == pixels(whole)
    for name in RECORDS:
        assert (parts / "input" / name).read_text() == (whole / "input" / name).read_text()


def test_resuming_renders_what_was_cut_off_or_lost(plan, tmp_path):
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    for root in (whole, damaged):
        synthesize(replace(plan, samples=4), root)
    view = damaged / "input/clean/sample_0001/2.png"
    view.write_bytes(view.read_bytes()[:-9])
    (damaged / "input/clean/sample_0003/0.png").write_bytes(b"")
    report = synthesize(replace(plan, samples=4), damaged, resume=True)
    assert (report.rendered, report.kept) == (2, 2)
    albedo = damaged / "output/brick/albedo.png"
    albedo.write_bytes(albedo.read_bytes()[:-9])
    (damaged / "output/oak/normal.png").unlink()
    assert synthesize(replace(plan, samples=4), damaged, resume=True).rendered == 4
    assert pixels(damaged) == pixels(whole)


class CallingReporter(SilentReporter):
    """Calls a function when its bar has counted so many items."""

    def __init__(self, count, call):
        self.left = count
        self.call = call

    def bar(self, *_, **__):
        return self

    def advance(self):
        self.left -= 1
        if self.left == 0:
            self.call()

    def close(self):
        pass


@pytest.mark.parametrize(("seconds", "saved"), [(0.0, 1), (60.0, None)])
def test_records_are_saved_now_and_then(plan, tmp_path, monkeypatch, seconds, saved):
    def look():
        path = tmp_path / "input/render_metadata.json"
        seen.append(len(json.loads(path.read_text())) if path.exists() else None)

    seen: list[int | None] = []
    monkeypatch.setattr("neuropbr_core.data.synthesis.render._SAVE_SECONDS", seconds)
    with reporting_to(CallingReporter(1, look)):
        synthesize(plan, tmp_path)
    assert seen == [saved]


@pytest.mark.slow
def test_a_killed_render_is_finished_by_resuming(rich, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    samples = 10
    options = [
        *(
            "--materials",
            rich.materials,
            "--environments",
            rich.environments,
            "--dirty-fraction",
            "0.5",
            "--kind",
            "no_flash",
        ),
        *("--samples", str(samples), "--size", "32", "--view-size", "48", "--seed", "4", "--device", "cpu"),
    ]
    command = [Path(sys.executable).with_name("neuropbr"), "data", "synthesize", "--output", str(parts), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while len(list(parts.glob("input/clean/sample_*"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 3 <= len(list(parts.glob("input/clean/sample_*"))) < samples
    plan = replace(rich, samples=samples)
    assert synthesize(plan, parts, resume=True).rendered > 0
    synthesize(plan, whole)
    assert pixels(parts) == pixels(whole)
    assert not list(parts.rglob(".*"))


def test_an_interruption_loses_only_the_sample_at_hand(plan, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), reporting_to(CallingReporter(2, interrupt)):
        synthesize(plan, tmp_path)
    assert len(json.loads((tmp_path / "input/render_metadata.json").read_text())) == 2
    assert synthesize(plan, tmp_path, resume=True).rendered == 1


def test_a_pool_is_not_overwritten_or_mixed(plan, tmp_path):
    synthesize(plan, tmp_path)
    with pytest.raises(DataError, match=r"holds rendered samples; continue with --resume, or choose another folder"):
        synthesize(plan, tmp_path)
    with pytest.raises(
        DataError,
        match=r"size 32 there, 64 wanted; view_size 32 .*; seed 4 there, 9 wanted",
    ):
        synthesize(replace(plan, size=64, seed=9), tmp_path, resume=True)
    (tmp_path / "input/synthesis.json").unlink()
    with pytest.raises(DataError, match="holds a dataset that was not rendered here"):
        synthesize(plan, tmp_path, resume=True)


def test_a_photographers_record_of_kinds_is_no_damaged_rendering(plan, tmp_path):
    (tmp_path / "input/clean/mine").mkdir(parents=True)
    (tmp_path / "input/captures.json").write_text('{"mine": {"kind": "flash"}}')
    with pytest.raises(DataError, match="holds a dataset that was not rendered here"):
        synthesize(plan, tmp_path)


def test_materials_are_not_replaced_by_their_small_copies(plan, materials, tmp_path):
    shutil.copytree(materials, tmp_path / "output")
    before = pixels(tmp_path)
    for source in (materials, tmp_path / "output"):
        message = r"output: holds brick and 1 more, which rendering would replace by maps of 48 pixels; choose another"
        with pytest.raises(DataError, match=message):
            synthesize(replace(plan, materials=str(source), size=48), tmp_path)
    assert pixels(tmp_path) == before
    assert not (tmp_path / "input").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dirty_fraction": 0.25}, r"dirty_fraction 0\.5 there, 0\.25 wanted"),
        ({"view_size": 32}, "view_size 48 there, 32 wanted"),
        ({"kinds": ("flash", "far")}, r"kinds \[no_flash\] there, \[flash, far\] wanted"),
        ({"environments": None}, r"other environments \(hall\.hdr, yard\.hdr\)"),
    ],
)
def test_changed_options_are_refused(rich, tmp_path, change, message):
    CaptureFolder(tmp_path).start(settings_of(rich))
    with pytest.raises(DataError, match=message):
        synthesize(replace(rich, **change), tmp_path, resume=True)


def settings_of(plan):
    return plan_settings(plan, 3)


def test_another_radiance_map_of_the_same_name_is_noticed(rich, environments, tmp_path):
    copied = tmp_path / "environments"
    shutil.copytree(environments, copied)
    rich = replace(rich, environments=str(copied))
    CaptureFolder(tmp_path / "pool").start(settings_of(rich))
    shutil.copy(copied / "yard.hdr", copied / "hall.hdr")
    with pytest.raises(DataError, match=r"other environments \(hall\.hdr\)"):
        synthesize(rich, tmp_path / "pool", resume=True)


def test_a_pool_of_an_older_renderer_is_refused(plan, tmp_path):
    synthesize(replace(plan, samples=1), tmp_path)
    record = json.loads((tmp_path / "input/synthesis.json").read_text())
    older = {name: record[name] for name in ("views", "size", "seed", "materials")}
    (tmp_path / "input/synthesis.json").write_text(json.dumps(older))
    with pytest.raises(DataError, match="revision 1 of the renderer there, 2 is installed"):
        synthesize(plan, tmp_path, resume=True)


def test_dirty_renderings_lie_beside_clean_ones(rich, tmp_path):
    synthesize(rich, tmp_path, views=2)
    found = {
        mode: find_samples(Data(root=str(tmp_path), views=2, alignment="recorded", render_curriculum=mode))
        for mode in (0, 1, 2)
    }
    assert [sample.id for sample in found[0]] == [f"clean/sample_{index:04d}" for index in range(3)]
    assert {sample.id.split("/")[0] for sample in found[2]} == {"dirty"}
    assert len(found[1]) == len(found[0]) + len(found[2])
    clean, dirty = (read_view(tmp_path / f"input/{source}/{found[2][0].id[6:]}/0.png") for source in ("clean", "dirty"))
    assert clean.shape == dirty.shape == (3, 48, 48)
    assert (clean != dirty).mean() > 0.5
    assert read_map(found[0][0].maps["albedo"], MAPS["albedo"]).shape == (3, 32, 32)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_the_dirty_share_is_exact_and_spread_over_the_materials(plan, fraction):
    for count in (1, 8, 13):
        settings = replace(
            settings_of(plan), materials=dict.fromkeys(map(str, range(count)), ""), dirty_fraction=fraction
        )
        chosen = [index for index in range(50 * count) if settings.dirty(index)]
        assert abs(len(chosen) - 50 * count * fraction) <= 3
        for material in range(count):
            assert abs(sum(index % count == material for index in chosen) - 50 * fraction) <= 2


def test_more_dirt_keeps_what_less_had(plan):
    less, more = (settings_of(replace(plan, dirty_fraction=fraction)) for fraction in (0.2, 0.6))
    assert all(more.dirty(index) for index in range(300) if less.dirty(index))


def test_dirt_leaves_the_clean_renderings_as_they_are(plan, tmp_path):
    synthesize(plan, tmp_path / "without")
    synthesize(replace(plan, dirty_fraction=1.0), tmp_path / "with")
    clean = {name: content for name, content in pixels(tmp_path / "with").items() if "dirty" not in name}
    assert clean == pixels(tmp_path / "without")


def test_captures_say_how_they_were_lit(rich, plan, tmp_path):
    synthesize(replace(rich, samples=6), tmp_path / "maps", views=1)
    records = json.loads((tmp_path / "maps/input/captures.json").read_text())
    assert sorted(records) == [f"sample_{index:04d}" for index in range(6)]
    assert {record["environment"] for record in records.values()} == {"hall.hdr", "yard.hdr"}
    assert all(0 <= record["turned"] < 360 for record in records.values())
    assert {(record["kind"], record["ambient"]) for record in records.values()} == {("no_flash", 1.0)}
    dirty = {name for name, record in records.items() if record["dirt"] is not None}
    assert dirty == {path.name for path in (tmp_path / "maps/input/dirty").iterdir()}
    assert all(set(records[name]["dirt"]) >= {"photographer", "haze", "noise", "jpeg"} for name in dirty)
    synthesize(plan, tmp_path / "drawn", views=1)
    records = json.loads((tmp_path / "drawn/input/captures.json").read_text())
    assert {(record["environment"], record["kind"]) for record in records.values()} == {("procedural", "flash")}


def test_kinds_take_turns_after_all_materials(plan, tmp_path):
    kinds = ("flash", "auto", "offset", "no_flash", "far")
    plan = replace(plan, samples=12, kinds=kinds)
    synthesize(plan, tmp_path, views=2)
    records = json.loads((tmp_path / "input/captures.json").read_text())
    assert [record["kind"] for record in records.values()][::2] == [*kinds, "flash"]
    assert [record["kind"] for record in records.values()][1::2] == [*kinds, "flash"]
    offsets = [record["flash_offset"] for record in records.values()]
    assert [offset is not None for offset in offsets] == [index in (4, 5) for index in range(12)]
    assert 0.03 <= np.hypot(*offsets[4][:2]) <= 0.12
    samples = find_samples(Data(root=str(tmp_path), views=2, alignment="recorded"))
    assert [sample.capture_kind for sample in samples[::2]] == [*kinds, "flash"]


def test_a_kind_changes_what_it_is_about_and_nothing_else(plan, tmp_path):
    plan = replace(plan, samples=2, dirty_fraction=1.0)
    for kind in ("flash", "auto", "offset", "no_flash", "far"):
        synthesize(replace(plan, kinds=(kind,)), tmp_path / kind, views=2)
    cameras = {}
    luminance = {}
    for kind in ("flash", "auto", "offset", "no_flash", "far"):
        cameras[kind] = (tmp_path / kind / "input/cameras.json").read_text()
        for condition in ("clean", "dirty"):
            photos = [read_view(path) for path in sorted((tmp_path / kind / "input" / condition).rglob("*.png"))]
            luminance[kind, condition] = np.stack(photos)
    assert cameras["flash"] == cameras["auto"] == cameras["offset"] == cameras["no_flash"] != cameras["far"]
    for (kind, condition), photos in luminance.items():
        if kind != "flash":
            assert (photos != luminance["flash", condition]).mean() > 0.2, (kind, condition)
    # Automatic exposure brings the means of all photos together.
    spread = {kind: luminance[kind, "clean"].mean(axis=(1, 2, 3)).std() for kind in ("flash", "auto")}
    assert spread["auto"] < spread["flash"]


@pytest.mark.parametrize(("flash", "kind"), [(True, "flash"), (False, "no_flash")])
def test_a_folder_from_before_there_were_kinds_is_read_as_it_was(plan, tmp_path, flash, kind):
    plan = replace(plan, kinds=(kind,))
    synthesize(replace(plan, samples=1), tmp_path)
    for name in ("synthesis", "captures"):
        path = tmp_path / f"input/{name}.json"
        record = json.loads(path.read_text())
        old = record if name == "synthesis" else record["sample_0000"]
        old["flash"] = flash
        for key in ("kinds", "kind", "flash_offset"):
            old.pop(key, None)
        path.write_text(json.dumps(record))
    assert find_samples(Data(root=str(tmp_path)))[0].capture_kind == kind
    other = replace(plan, kinds=("far",))
    with pytest.raises(DataError, match=rf"kinds \[{kind}\] there, \[far\] wanted"):
        synthesize(other, tmp_path, resume=True)
    assert synthesize(plan, tmp_path, resume=True).kept == 1


def test_kinds_of_captures_may_be_anybodys_or_unknown(plan, tmp_path):
    synthesize(replace(plan, samples=2), tmp_path)
    path = tmp_path / "input/captures.json"
    path.write_text('{"sample_0000": {"kind": "phone"}}')
    kinds = [sample.capture_kind for sample in find_samples(Data(root=str(tmp_path)))]
    assert kinds == ["phone", "flash"]
    path.write_text('{"sample_0000": {"kind": 3}}')
    with pytest.raises(DataError, match=r"captures\.json: sample_0000: the kind 3 is no text"):
        find_samples(Data(root=str(tmp_path)))
    path.write_text("[]")
    with pytest.raises(DataError, match=r'captures\.json: .*it must be a JSON object such as \{"sample_0000"'):
        find_samples(Data(root=str(tmp_path)))


def test_the_device_must_be_there(plan, tmp_path):
    with pytest.raises(DeviceError, match="found 'gpu'"):
        synthesize(plan, tmp_path, device="gpu")
    assert not list(tmp_path.iterdir())
    synthesize(replace(plan, samples=1), tmp_path, views=1, device="auto")


@pytest.mark.gpu
def test_a_gpu_renders_the_same_up_to_rounding(rich, tmp_path):
    for device in ("cpu", "cuda"):
        synthesize(replace(rich, dirty_fraction=1.0), tmp_path / device, device=device)
    for source in ("clean", "dirty"):
        photo = f"input/{source}/sample_0000/0.png"
        a, b = (read_view(tmp_path / device / photo).astype(int) for device in ("cpu", "cuda"))
        assert abs(a - b).mean() < 0.6


def test_broken_environments_are_reported_together_before_any_work(plan, environments, tmp_path):
    folder = tmp_path / "environments"
    shutil.copytree(environments, folder)
    (folder / "yard.hdr").write_bytes((folder / "yard.hdr").read_bytes()[:-9])
    (folder / "photo.hdr").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"(?s)photo\.hdr: is no Radiance file.*yard\.hdr: cannot be decoded"):
        synthesize(replace(plan, environments=str(folder)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_materials_are_reported_together_before_any_work(plan, tmp_path):
    source = tmp_path / "materials"
    for material in ("a", "b", "c"):
        for spec in MAPS.values():
            write_map(source / material, spec, np.full((spec.channels, 8, 8), 128, np.uint8))
    broken = replace(plan, materials=str(source))
    for damaged in (source / "a/normal.png", source / "c/albedo.png"):
        damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"(?s)a/normal\.png: cannot be decoded.*c/albedo\.png: cannot be decoded"):
        synthesize(broken, tmp_path / "out")
    (source / "b/metallic.png").unlink()
    (source / "c/albedo.png").unlink()
    with pytest.raises(DataError, match=r"(?s)b: metallic\.png missing.*c: albedo\.png missing"):
        synthesize(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_without_materials(plan, tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder; give the folder that holds the material folders"):
        synthesize(replace(plan, materials=str(tmp_path / "none")), tmp_path)
    with pytest.raises(DataError, match="holds no material folders"):
        synthesize(replace(plan, materials=str(tmp_path)), tmp_path / "out")


def test_captures_are_rendered_once_and_announced(plan, tmp_path):
    data = Data(root=str(tmp_path / "pool"), synthesize=plan)
    told = RecordingReporter()
    said = told.lines
    with reporting_to(told):
        ensure_captures(data)
    assert len(said) == 1
    assert said[0].startswith("Rendering 3 captures of the materials in ")
    before = pixels(tmp_path / "pool")
    with reporting_to(told):
        ensure_captures(data)
    assert len(said) == 1
    with reporting_to(told):
        ensure_captures(replace(data, synthesize=replace(plan, samples=4)))
    assert said[1].startswith("Rendering 1 captures")
    assert before.items() < pixels(tmp_path / "pool").items()


def test_captures_other_than_the_recipes_are_refused(plan, tmp_path):
    data = Data(root=str(tmp_path), synthesize=plan)
    ensure_captures(data)
    with pytest.raises(DataError, match=r"other settings: views 3 there, 2 wanted; set another data\.root, or remove"):
        ensure_captures(replace(data, views=2))
    with pytest.raises(DataError, match="samples 3 there, 2 wanted"):
        ensure_captures(replace(data, synthesize=replace(plan, samples=2)))
    (tmp_path / "input/synthesis.json").unlink()
    with pytest.raises(DataError, match=r"holds a dataset that data\.synthesize did not render; remove that key"):
        ensure_captures(data)


def test_captures_need_a_root_of_their_own(plan):
    with pytest.raises(DataError, match=r"data\.synthesize needs data\.root"):
        ensure_captures(Data(synthesize=plan))
    with pytest.raises(DataError, match=r"remove data\.input_dir"):
        ensure_captures(Data(root="x", input_dir="y", synthesize=plan))


def test_nothing_happens_without_the_key(tmp_path):
    ensure_captures(Data(root=str(tmp_path / "absent")))
    assert not (tmp_path / "absent").exists()
