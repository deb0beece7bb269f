import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neuropbr_core.contracts import ValidationSummary
from neuropbr_core.errors import PluginError
from neuropbr_core.observers.wandb import Options
from neuropbr_core.observers.wandb.history import WandbObserver
from neuropbr_core.testing.observer import ExampleRun, ObserverSuite, tell

pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


class TestWandb(ObserverSuite):
    use = "wandb"
    option_sets = ({"mode": "disabled"}, {"mode": "disabled", "images": False})


@pytest.mark.slow
class TestWandbOffline(ObserverSuite):
    use = "wandb"
    option_sets = ({"mode": "offline"},)


def observer(run_dir: Path, **options: Any) -> WandbObserver:
    return WandbObserver(Options(mode="offline", **options), run_dir)


def parts(run_dir: Path) -> list[Path]:
    """The folders of the run's parts, which are named after the second in which they were made."""
    return sorted((run_dir / "wandb").glob("offline-run-*"))


def next_second() -> None:
    """Parts of one run need folders of different names."""
    time.sleep(1.01)


def records(part: Path) -> list[Any]:
    """Every record that the run file of a part holds, once the package's own process has written the last one."""
    limit = time.monotonic() + 120
    while True:
        found = list(read_records(part))
        if any(record.HasField("exit") for record in found):
            return found
        assert time.monotonic() < limit, "the run file was not finished"
        time.sleep(0.02)


def read_records(part: Path) -> Iterator[Any]:
    """Every record that stands in the run file of a part."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = part.glob("*.wandb")
    for data in log_entries(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        yield record


def log_entries(content: bytes) -> Iterator[bytes]:
    """Whole entries of a LevelDB log: blocks of 32 KiB, the first with a header of 7 bytes; entries in fragments.

    The last fragment can be cut, because another process still writes.
    """
    assert content[:4] in (b"", b":W&B")
    at, entry = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # no fragment fits
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        if at + 7 + length > len(content):
            return
        entry += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last fragment
            yield entry
            entry = b""


def history(run_dir: Path) -> list[dict[str, Any]]:
    """Every row of the run, over all its parts."""
    return [row for part in parts(run_dir) for row in history_of(part)]


def history_of(part: Path) -> list[dict[str, Any]]:
    """Every row of one part."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records(part)
        if record.WhichOneof("record_type") == "history"
    ]


def steps(rows: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(row["global_step"], row[key]) for row in rows if key in row]


def test_every_metric_is_in_the_run_file_at_its_step(tmp_path: Path) -> None:
    tell(observer(tmp_path), ExampleRun(tmp_path, epochs=2).calls())
    rows = history(tmp_path)
    assert steps(rows, "train/loss/total") == [(2, 0.25), (4, 0.25), (6, 0.25), (8, 0.25)]
    assert steps(rows, "epoch/critic/total") == [(4, 0.25), (8, 0.25)]
    assert steps(rows, "validation/normal/angle") == [(4, 0.25), (8, 0.25)]
    assert [row["epoch"] for row in rows if "validation/loss" in row] == [1, 2]
    assert [row["_step"] for row in rows] == list(range(len(rows)))


def test_the_run_file_has_what_the_recipe_says(tmp_path: Path) -> None:
    options = {
        "project": "bricks",
        "entity": "masons",
        "name": "red",
        "group": "walls",
        "tags": ("clay",),
        "notes": "n",
    }
    tell(observer(tmp_path, **options), ExampleRun(tmp_path, epochs=1).calls())
    (run, *_rest) = (record.run for record in records(parts(tmp_path)[0]) if record.HasField("run"))
    assert (run.project, run.entity, run.display_name, run.run_group) == ("bricks", "masons", "red", "walls")
    assert (list(run.tags), run.notes) == (["clay"], "n")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["training"] == {"epochs": 1}
    assert config["facts"]["device"] == "cpu"
    metrics = [record.metric for record in records(parts(tmp_path)[0]) if record.HasField("metric")]
    assert {(metric.glob_name or metric.name, metric.step_metric) for metric in metrics} >= {("*", "global_step")}
    summary = {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for record in records(parts(tmp_path)[0])
        if record.HasField("summary")
        for item in record.summary.update
    }
    assert summary["best/albedo/psnr"] == 0.25


def test_pictures_are_kept_pixel_for_pixel_and_can_be_left_out(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    summary = ValidationSummary(0, 7, {"loss": 0.5}, {"brick": picture}, {"brick/views": picture[::-1]})
    for name, images in (("with", True), ("without", False)):
        (tmp_path / name).mkdir()
        tell(
            observer(tmp_path / name, images=images),
            iter([("validation_finished", (summary,)), ("run_finished", ({},))]),
        )
    media = parts(tmp_path / "with")[0] / "files" / "media" / "images"
    for folder, expected in (("grids", picture), ("pictures/brick", picture[::-1])):
        (file,) = (media / folder).glob("*.png")
        np.testing.assert_array_equal(np.asarray(Image.open(file)), expected)
    assert history(tmp_path / "with")[0]["grids/brick/_type"] == "image-file"
    assert not list((tmp_path / "without").rglob("*.png"))


@pytest.mark.parametrize("told", [13, 15, 16])
def test_a_resumed_run_continues_under_its_id_with_every_step_once(tmp_path: Path, told: int) -> None:
    calls = list(ExampleRun(tmp_path, epochs=3).calls())
    stopped = [*calls[:told], ("run_failed", (KeyboardInterrupt(),))]  # within the second epoch
    tell(observer(tmp_path), iter(stopped))
    next_second()
    tell(observer(tmp_path), ExampleRun(tmp_path, start_epoch=1).calls())
    first, second = parts(tmp_path)
    assert {path.name.rpartition("-")[2] for path in (first, second)} == {
        json.loads((tmp_path / "wandb.json").read_text())["id"]
    }
    rows = history(tmp_path)
    assert [step for step, _ in steps(rows, "train/loss/total")] == [2, 4, 6, 8, 10, 12]
    assert [step for step, _ in steps(rows, "epoch/loss/total")] == [4, 8, 12]
    assert [step for step, _ in steps(rows, "validation/loss")] == [4, 8, 12]
    assert [row["_step"] for row in rows] == list(range(len(rows)))


_KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from neuropbr_core.observers.wandb import Options
from neuropbr_core.observers.wandb.history import WandbObserver
from neuropbr_core.testing.observer import ExampleRun, tell
folder = Path(sys.argv[1])
tell(WandbObserver(Options(mode="offline"), folder), iter(list(ExampleRun(folder).calls())[:14]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_nothing_is_missing(tmp_path: Path) -> None:
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    done = subprocess.run([sys.executable, "-c", _KILLED_RUN, str(tmp_path)], env=alone, check=False)
    assert done.returncode == -signal.SIGKILL
    next_second()
    tell(observer(tmp_path), ExampleRun(tmp_path, start_epoch=1).calls())
    first, second = parts(tmp_path)
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2]
    assert [step for step, _ in steps(history_of(second), "train/loss/total")] == [6, 8, 10, 12]
    assert [step for step, _ in steps(history_of(second), "validation/loss")] == [8, 12]
    assert history_of(second)[0]["_step"] == 5  # the first part was given five rows


def test_a_new_run_has_an_id_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        tell(observer(tmp_path), ExampleRun(tmp_path, epochs=1).calls())
    first, second = parts(tmp_path)
    assert first.name.rpartition("-")[2] != second.name.rpartition("-")[2]
    assert len(steps(history(tmp_path), "validation/loss")) == 2


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"id": 7}'])
def test_a_lost_id_starts_a_new_wandb_run(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "wandb.json").write_text(content)
    tell(observer(tmp_path), ExampleRun(tmp_path, start_epoch=1).calls())
    assert [step for step, _ in steps(history(tmp_path), "validation/loss")] == [8, 12]


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (("run_finished", ({},)), 0),
        (("run_failed", (RuntimeError("no"),)), 1),
        (("run_failed", (KeyboardInterrupt(),)), 255),
    ],
)
def test_wandb_learns_how_the_run_ended(tmp_path: Path, last: Any, code: int) -> None:
    tell(observer(tmp_path), iter([("run_started", (ExampleRun(tmp_path).info(),)), last]))
    (ended,) = (record.exit for record in records(parts(tmp_path)[0]) if record.HasField("exit"))
    assert ended.exit_code == code


@pytest.mark.parametrize("found", [None, types.ModuleType("wandb")])
def test_without_the_package_the_error_has_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: types.ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", found)  # None: not installed; empty: a folder of that name
    with pytest.raises(PluginError, match=r"not installed: pip install 'neuropbr\[wandb\]', .*observers\.wandb: null"):
        WandbObserver(Options(), tmp_path)


_OFFLINE_RUN = """
import sys
from pathlib import Path
from neuropbr_core.observers.wandb import Options
from neuropbr_core.observers.wandb.history import WandbObserver
from neuropbr_core.testing.observer import ExampleRun, tell
folder = Path(sys.argv[1])
tell(WandbObserver(Options(mode="offline"), folder), ExampleRun(folder).calls())
"""


def test_offline_nothing_is_sent(tmp_path: Path) -> None:
    """Every way out leads to a listener that nobody calls."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        way_out = f"http://127.0.0.1:{listener.getsockname()[1]}"
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WANDB_BASE_URL")
        env = {**os.environ, **dict.fromkeys(names, way_out), "no_proxy": "", "NO_PROXY": ""}
        env = {name: value for name, value in env.items() if name not in ("WANDB_ERROR_REPORTING", "WANDB_SERVICE")}
        done = subprocess.run(
            [sys.executable, "-c", _OFFLINE_RUN, str(tmp_path)], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert len(steps(history(tmp_path), "validation/loss")) == 3
        with pytest.raises(BlockingIOError):
            listener.accept()
