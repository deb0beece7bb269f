"""Captures that several processes or several machines render: the same bytes, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuropbr_core.data.images import write_map
from neuropbr_core.data.opening import captures_missing
from neuropbr_core.data.synthesis import parts as parts_module
from neuropbr_core.data.synthesis.parts import Part, merge_parts, parse_part
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import DataError, RunError
from neuropbr_core.files import process_is_alive
from neuropbr_core.lock import FolderLock
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data, Synthesize
from neuropbr_core.reporting import RecordingReporter, reporting_to

COUNT = 3


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    folder = tmp_path_factory.mktemp("materials")
    rng = np.random.default_rng(0)
    for material in ("brick", "oak"):
        for name, spec in MAPS.items():
            low, high = (128, 129) if name == "normal" else (60, 200)
            stored = rng.integers(low, high, (spec.channels, 32, 32), dtype=np.uint8)
            write_map(folder / material, spec, stored)
    return folder


@pytest.fixture(scope="module")
def plan(materials):
    return Synthesize(str(materials), samples=7, size=32, seed=4, dirty_fraction=0.5)


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory):
    """The captures in one go."""
    folder = tmp_path_factory.mktemp("whole")
    synthesize(plan, folder, views=2)
    return content(folder)


@pytest.fixture(scope="module")
def divided(plan, tmp_path_factory):
    """The same captures in three parts."""
    folder = tmp_path_factory.mktemp("divided")
    for index in range(1, COUNT + 1):
        synthesize(plan, folder, views=2, part=Part(index, COUNT))
    return folder


@pytest.fixture
def root(divided, tmp_path):
    return shutil.copytree(divided, tmp_path / "captures")


def content(root):
    """All files of a folder, hidden ones too, by path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_number_of_processes_changes_no_byte(plan, whole, tmp_path):
    report = synthesize(plan, tmp_path, views=2, jobs=2)
    assert (report.rendered, report.kept) == (7, 0)
    assert content(tmp_path) == whole


def test_parts_merge_into_what_one_call_renders(root, whole):
    report = merge_parts(root)
    assert (report.parts, report.samples) == (COUNT, 7)
    assert content(root) == whole
    assert sorted(path.name for path in root.iterdir()) == ["input", "output"]


@pytest.mark.parametrize(("samples", "materials", "count"), [(7, 2, 3), (8, 8, 8), (100, 7, 12), (5, 9, 5)])
def test_every_sample_is_in_one_part_and_parts_are_equal(samples, materials, count):
    shares = [Part(index, count).samples(samples, materials) for index in range(1, count + 1)]
    assert sorted(sample for share in shares for sample in share) == list(range(samples))
    assert {len(share) for share in shares} <= {samples // count, -(-samples // count)}
    # A material is shared by no more parts than its samples need.
    for material in range(min(materials, samples)):
        users = [share for share in shares if any(sample % materials == material for sample in share)]
        own = len(range(material, samples, materials))
        assert len(users) <= own // (samples // count) + 2


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1/1000000"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(DataError, match=r"must be I/N, such as 3/8"):
        parse_part(text)


def test_a_part_is_parsed():
    assert parse_part("3/8") == Part(3, 8)


def test_a_part_is_continued_and_keeps_its_place(plan, tmp_path):
    part = Part(2, COUNT)
    synthesize(plan, tmp_path, views=2, part=part)
    folder = part.folder(tmp_path)
    sample = min((folder / "input/clean").iterdir())
    (sample / "1.png").unlink()
    with pytest.raises(DataError, match="continue with --resume"):
        synthesize(plan, tmp_path, views=2, part=part)
    report = synthesize(plan, tmp_path, views=2, part=part, resume=True)
    assert (report.rendered, report.kept) == (1, 1)
    with pytest.raises(DataError, match=r"says part 2/3 of 7 samples; wanted is part 2/3 of 9; ask for the same, or"):
        synthesize(replace(plan, samples=9), tmp_path, views=2, part=part, resume=True)
    with pytest.raises(DataError, match=r"part 1/8: 7 samples make at most 7 parts"):
        synthesize(plan, tmp_path, views=2, part=Part(1, 8))


def test_a_folder_with_parts_is_merged_first(plan, root):
    with pytest.raises(DataError, match=r"holds parts that are not merged; merge them with `neuropbr data merge"):
        synthesize(plan, root, views=2, resume=True)
    with pytest.raises(DataError, match=r"holds parts that are not merged"):
        captures_missing(Data(root=str(root), views=2, synthesize=plan))


def test_two_writers_of_a_part_are_kept_apart(plan, root):
    part = Part(1, COUNT)
    with FolderLock(part.folder(root)):
        with pytest.raises(RunError, match=r"1-of-3: process \d+ on .* renders into this folder; wait for it or stop"):
            synthesize(plan, root, views=2, part=part, resume=True)
        with pytest.raises(DataError, match=r"1-of-3: process \d+ on .* still renders it; wait for it"):
            merge_parts(root)
    with FolderLock(root):
        with pytest.raises(DataError, match=r"process \d+ on .* writes there; render parts before they are merged"):
            synthesize(plan, root, views=2, part=part, resume=True)
        with pytest.raises(RunError, match=r"writes there; wait for it or stop it"):
            merge_parts(root)


def test_a_part_that_is_merged_is_not_rendered_again(plan, root, whole):
    part = Part(2, COUNT)
    merge_parts(root)
    with pytest.raises(DataError, match=r"holds a dataset, so part 2/3 is merged already; check it with --resume"):
        synthesize(plan, root, views=2, part=part)
    reports = RecordingReporter()
    with reporting_to(reports):
        report = synthesize(plan, root, views=2, part=part, resume=True)
    assert (report.rendered, report.kept, report.folder) == (0, 2, root)
    assert reports.lines == [f"{root}: part 2/3 is merged already"]
    with pytest.raises(DataError, match=r"was rendered with other settings: seed 4 there, 5 wanted"):
        synthesize(replace(plan, seed=5), root, views=2, part=part, resume=True)
    with pytest.raises(DataError, match=r"lacks 1 samples of part 3/3; render them without --part"):
        synthesize(replace(plan, samples=8), root, views=2, part=Part(3, COUNT), resume=True)
    assert content(root) == whole
    assert not (root / "parts").exists()


def test_a_part_that_waited_for_the_merge_is_refused(plan, root, whole, monkeypatch):
    part = Part(2, COUNT)
    acquire = FolderLock.acquire

    def merge_first(lock):
        monkeypatch.setattr(FolderLock, "acquire", acquire)
        merge_parts(root)
        acquire(lock)

    monkeypatch.setattr(FolderLock, "acquire", merge_first)
    with pytest.raises(DataError, match=r"part 2/3 is merged already"):
        synthesize(plan, root, views=2, part=part, resume=True)
    assert content(root) == whole


def test_nobody_renders_a_part_during_the_merge(plan, root, monkeypatch):
    link = os.link

    def render_meanwhile(source, target):
        monkeypatch.setattr(parts_module.os, "link", link)
        with (
            pytest.raises(RunError, match=r"2-of-3: process \d+ on .* renders"),
            FolderLock(Part(2, COUNT).folder(root), "renders"),
        ):
            pass
        link(source, target)

    monkeypatch.setattr(parts_module.os, "link", render_meanwhile)
    merge_parts(root)
    assert parts_module.os.link is link


def lose(root):
    shutil.rmtree(root / "parts/2-of-3")


def cut(root):
    view = min((root / "parts/2-of-3/input/clean").rglob("*.png"))
    view.write_bytes(view.read_bytes()[:-9])


def lose_view(root):
    min((root / "parts/3-of-3/input/dirty").rglob("*.png")).unlink()


def rename(root):
    (root / "parts/2-of-3").rename(root / "parts/x")


def swap(root):
    shutil.rmtree(root / "parts/2-of-3")
    shutil.copytree(root / "parts/1-of-3", root / "parts/2-of-3")


def divide_otherwise(root):
    shutil.copytree(root / "parts/1-of-3", root / "parts/1-of-4")


def change_settings(root):
    path = root / "parts/2-of-3/input/synthesis.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "seed": 9}))


def change_samples(root):
    path = root / "parts/3-of-3/input/part.json"
    path.write_text(json.dumps({"part": 3, "parts": 3, "samples": 9}))


def overlap(root):
    path = root / "parts/3-of-3/input/render_metadata.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "sample_0000": "brick"}))


def change_map(root):
    albedo = root / "parts/2-of-3/output/brick/albedo.png"
    other = root / "parts/2-of-3/output/brick/normal.png"
    albedo.write_bytes(other.read_bytes())


def never_begin(root):
    shutil.rmtree(root / "parts/1-of-3/input")


def put_dataset_beside(root):
    (root / "input").mkdir()
    (root / "input/photo.png").touch()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose, r"parts: lacks 2/3; render them with --part, or copy them there"),
        (cut, r"2-of-3: lacks 1 of its 2 samples, or parts of them: sample_\d+; continue it with --part 2/3 --resume"),
        (lose_view, r"3-of-3: lacks 1 of its 3 samples"),
        (rename, r"x: is no part, whose name is like 3-of-8"),
        (swap, r"2-of-3: holds part 1/3; give the folder its own name back"),
        (divide_otherwise, r"holds parts of 3 and 4 parts; keep one division"),
        (change_settings, r"2-of-3: was rendered with other settings than .*1-of-3: seed 4 there, 9 wanted"),
        (change_samples, r"3-of-3: was rendered with other settings than .*: samples 7 there, 9 wanted"),
        (overlap, r"3-of-3: has samples of other parts: sample_0000; render it again"),
        (change_map, r"2-of-3/output/brick/albedo\.png: differs from .*1-of-3/output/brick/albedo\.png; render one"),
        (never_begin, r"1-of-3: was not begun; render it with --part 1/3"),
        (put_dataset_beside, r"captures: holds a dataset beside its parts; move the parts into a folder of their own"),
    ],
)
def test_parts_that_make_no_dataset_are_refused_and_left_as_they_are(root, damage, message):
    damage(root)
    before = content(root)
    with pytest.raises(DataError, match=message):
        merge_parts(root)
    assert content(root) == before


def test_a_folder_without_parts_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"parts: no such folder; render the parts with"):
        merge_parts(tmp_path)


@pytest.mark.parametrize("links", [2, 9])
def test_an_interrupted_merge_is_done_again(root, whole, monkeypatch, links):
    calls = 0

    def interrupt(source, target):
        nonlocal calls
        calls += 1
        if calls > links:
            raise KeyboardInterrupt
        raise OSError  # as on a file system without links, where files are copied

    with monkeypatch.context() as patched:
        patched.setattr(parts_module.os, "link", interrupt)
        with pytest.raises(KeyboardInterrupt):
            merge_parts(root)
    assert (root / "parts/3-of-3/input/part.json").is_file()
    merge_parts(root)
    assert content(root) == whole


def command(plan, output, *options):
    settings = ("--samples", plan.samples, "--size", plan.size, "--seed", plan.seed, "--views", 2, "--device", "cpu")
    words = ("--materials", plan.materials, *settings, "--dirty-fraction", plan.dirty_fraction, "--output", output)
    program = Path(sys.executable).with_name("neuropbr")
    return [*map(str, (program, "data", "synthesize", *words, *options))]


def children(pid):
    """The processes that a process started, and that work for it."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in pids if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_part_is_continued_and_leaves_no_process(plan, tmp_path, number):
    plan = replace(plan, samples=60)
    part = Part(1, 2)
    words = command(plan, tmp_path, "--jobs", 2, "--part", part)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("parts/*/input/clean/sample_*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        pids = children(process.pid)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(map(process_is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(process_is_alive, pids))
    kept = len(list(tmp_path.glob("parts/*/input/clean/sample_*")))
    assert 1 <= kept < 30
    synthesize(plan, tmp_path, views=2, part=part, resume=True)
    synthesize(plan, tmp_path, views=2, part=Part(2, 2))
    merge_parts(tmp_path)
    synthesize(plan, tmp_path / "whole", views=2)
    expected = content(tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole")
    assert content(tmp_path) == expected


@pytest.mark.slow
def test_a_process_that_dies_is_named_and_its_samples_are_rendered_by_resuming(plan, tmp_path):
    plan = replace(plan, samples=60)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = command(plan, tmp_path, "--jobs", 2)
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("input/clean/sample_*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        victim = children(process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == 1
    assert errors.startswith(
        f"error: rendering captures: process {victim} was ended by SIGKILL, most likely because memory ran out, at "
        f"material "
    )
    assert errors.endswith("try fewer --jobs; --resume keeps what is complete\n")
    report = synthesize(plan, tmp_path, views=2, resume=True)
    assert report.rendered + report.kept == 60
