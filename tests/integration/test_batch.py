"""`neuropbr batch`, through the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_run
from click.testing import CliRunner, Result
from PIL import Image

from neuropbr_core.cli import root
from neuropbr_core.inference.predict import LoadedGenerator
from neuropbr_core.lock import FolderLock


def neuropbr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["batch", *map(str, arguments)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run.save_run(tmp_path_factory.mktemp("runs") / "plain", small_run.small_recipe(*small_run.PLAIN))


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """Three captures, of which the second one is damaged."""
    for name in ("a", "b", "c"):
        folder = tmp_path / "captures" / name
        folder.mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (32, 32), "grey").save(folder / f"{index}.png")
    (tmp_path / "captures" / "b" / "1.png").write_bytes(b"no picture")
    return tmp_path / "captures"


def test_one_bad_capture_does_not_stop_the_rest(
    captures: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = neuropbr(captures, "--run", trained, "--device", "cpu", "--for", "plain")
    assert done.exit_code == 1
    assert "warning: b: failed: " in done.output
    assert "3 captures, 1 failed: captures_maps/batch.json, captures_maps/batch.html" in done.output
    assert (tmp_path / "captures_maps" / "a" / "plain" / "manifest.json").is_file()
    assert not (tmp_path / "captures_maps" / "b").exists()

    # The damaged photo is mended, and the rest is not computed again.
    Image.new("RGB", (32, 32)).save(captures / "b" / "1.png")
    before = (tmp_path / "captures_maps" / "c" / "albedo.png").stat().st_mtime_ns
    done = neuropbr(captures, "--run", trained, "--device", "cpu", "--for", "plain", "--resume", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(row["name"], row["state"]) for row in rows] == [("a", "done"), ("b", "done"), ("c", "done")]
    assert "a: is done" in done.stderr
    assert (tmp_path / "captures_maps" / "c" / "albedo.png").stat().st_mtime_ns == before

    done = neuropbr(captures, "--run", trained, "--device", "cpu")
    assert "holds a batch already; continue it with --resume" in str(done.exception)


def test_the_model_is_loaded_once(
    captures: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[object] = []
    create = LoadedGenerator.__init__

    def counted(self: LoadedGenerator, *arguments: object) -> None:
        loads.append(self)
        create(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LoadedGenerator, "__init__", counted)
    neuropbr(captures, "--run", trained, "--device", "cpu", "--output", tmp_path / "out")
    assert len(loads) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--resume", "--overwrite"), "give either --resume or --overwrite"),
        (("--max-memory", "1"), "--max-memory limits the tiles"),
        (("--ensemble", "--resolution", "64"), "tiles are predicted from one side"),
        (("--ensemble", "--tileable"), "the confidence map is not cut"),
    ],
)
def test_options_that_exclude_each_other(captures: Path, arguments: tuple[str, ...], message: str) -> None:
    done = neuropbr(captures, *arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_nothing_to_do_and_no_place(captures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no folder with photos is there" in neuropbr(tmp_path / "empty", "--output", tmp_path / "out").output
    assert "name the folder of the batch with --output" in neuropbr(captures / "a", captures / "c").output
    assert not (tmp_path / "out").exists()


def test_two_at_once(captures: Path, trained: Path, tmp_path: Path) -> None:
    with FolderLock(tmp_path / "out"):
        done = neuropbr(captures, "--run", trained, "--device", "cpu", "--output", tmp_path / "out")
    assert done.exit_code == 1
    assert "writes this batch; wait for it or stop it, or choose another --output" in str(done.exception)


def start(*arguments: str | Path) -> "subprocess.Popen[str]":
    code = "from neuropbr_core.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "batch", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_batch_that_was_killed_goes_on(captures: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(captures, "--run", trained, "--device", "cpu", "--output", out)
    assert process.stderr is not None
    while "a: 3 photos" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    Image.new("RGB", (32, 32)).save(captures / "b" / "1.png")
    done = neuropbr(captures, "--run", trained, "--device", "cpu", "--output", out, "--resume")
    assert done.exit_code == 0, done.output
    assert "a: is done" in done.output
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_watching_ends_with_a_table(captures: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(captures, "--run", trained, "--device", "cpu", "--output", out, "--watch")
    deadline = time.monotonic() + 120
    while not (out / "c" / "albedo.png").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "watching" in stderr
    assert "3 captures, 1 failed" in stdout
    assert (out / "batch.html").is_file()
