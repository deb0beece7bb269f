"""`neuropbr sweep`: which runs it makes, what it refuses, and what becomes of failures."""

import errno
import signal
import time
from multiprocessing import Pipe, get_context
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.errors import RecipeError, RunError, RunInterrupted
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs import sweep, sweep_jobs
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.stage import Plan
from neuropbr_core.runs.sweep import carry_out_sweep, plan_sweep, split_values
from neuropbr_core.runs.sweep_jobs import _is_done, _Job, carry_out_jobs

QUICKSTART = "neuropbr:quickstart"


def runs_dir(tmp_path: Path) -> str:
    return f"training.runs_dir={tmp_path}"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("[1, 2], [3]", ["[1, 2]", "[3]"]),
        ("{a: 1, b: 2},null", ["{a: 1, b: 2}", "null"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("1,", ["1", ""]),
        ("7", ["7"]),
    ],
)
def test_values_are_split_outside_of_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_every_combination_is_a_run_of_its_own(tmp_path: Path) -> None:
    settings = ["optimizer.lr=1e-3,2e-3", "training.epochs=3"]
    runs = plan_sweep(QUICKSTART, settings, (1, 2, 1), [runs_dir(tmp_path)])
    assert [run.folder.path.name for run in runs] == [
        "quickstart-optimizer.lr=1e-3-training.seed=1",
        "quickstart-optimizer.lr=1e-3-training.seed=2",
        "quickstart-optimizer.lr=2e-3-training.seed=1",
        "quickstart-optimizer.lr=2e-3-training.seed=2",
    ]
    recipes = [run.resolved.recipe for run in runs]
    assert [(recipe.optimizer.lr, recipe.training.seed) for recipe in recipes] == [
        (1e-3, 1),
        (1e-3, 2),
        (2e-3, 1),
        (2e-3, 2),
    ]
    assert {recipe.training.epochs for recipe in recipes} == {3}
    assert not any(run.resume for run in runs)
    assert list(tmp_path.iterdir()) == []


def test_names_that_folders_cannot_have_stay_distinct(tmp_path: Path) -> None:
    settings = ["training.init_from=a/b,a:b"]
    runs = plan_sweep(QUICKSTART, settings, (), [runs_dir(tmp_path)])
    names = {run.folder.path.name for run in runs}
    assert len(names) == 2
    assert all(name.startswith("quickstart-training.init_from=a_b-") for name in names)


@pytest.mark.parametrize(
    ("settings", "seeds", "problem"),
    [
        (["optimizer.lr=1e-3"], (), "nothing is swept"),
        (["optimizer.lr=1e-3,"], (), "empty value"),
        (["optimizer.lr=1e-3,2e-3", "optimizer.lr=3e-3,4e-3"], (), "is swept already"),
        (["optimizer.lr=1e-3,2e-3", "optimizer.lr=3e-3"], (), "is swept, and set by optimizer.lr=3e-3 too"),
        (["training.seed=1,2"], (3,), "leave out --seeds"),
    ],
)
def test_sweeps_that_mean_nothing_are_refused(
    tmp_path: Path, settings: list[str], seeds: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(RunError, match=problem):
        plan_sweep(QUICKSTART, settings, seeds, [runs_dir(tmp_path)])


def test_a_wrong_value_is_known_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"optimizer\.lr"):
        plan_sweep(QUICKSTART, ["optimizer.lr=1e-3,fast"], (), [runs_dir(tmp_path)])


def test_a_run_is_continued_unless_its_recipe_was_another(tmp_path: Path) -> None:
    first, _ = plan_sweep(QUICKSTART, [], (1, 2), [runs_dir(tmp_path)])
    first.folder.path.mkdir()
    first.folder.write_recipe(first.resolved.recipe)
    again = plan_sweep(QUICKSTART, [], (1, 2), [runs_dir(tmp_path), "training.device=cpu"])
    assert [run.resume for run in again] == [True, False]
    with pytest.raises(RunError, match=r"was started with another recipe \(.*epochs"):
        plan_sweep(QUICKSTART, ["training.epochs=3"], (1, 2), [runs_dir(tmp_path)])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    first, _ = plan_sweep(QUICKSTART, [], (1, 2), [runs_dir(tmp_path)])
    first.folder.path.mkdir()
    (first.folder.path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and is no run"):
        plan_sweep(QUICKSTART, [], (1, 2), [runs_dir(tmp_path)])


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = plan_sweep(QUICKSTART, [], (1, 2), [runs_dir(tmp_path)])
    tried: list[RunFolder] = []

    def fail_first(run: sweep.SweptRun) -> None:
        tried.append(run.folder)
        if len(tried) == 1:
            raise RunError("the loss is not finite")

    monkeypatch.setattr(sweep.SweptRun, "carry_out", fail_first)
    assert carry_out_sweep(runs) == ["quickstart-training.seed=1: the loss is not finite"]
    assert tried == [run.folder for run in runs]


def test_a_run_that_fails_in_an_unknown_way_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = plan_sweep(QUICKSTART, [], (1, 2, 3), [runs_dir(tmp_path)])
    failures: list[Exception] = [
        OSError(errno.ENOSPC, "No space left on device"),
        ZeroDivisionError("division by zero"),
    ]

    def fail_twice(run: sweep.SweptRun) -> None:
        if failures:
            raise failures.pop(0)

    monkeypatch.setattr(sweep.SweptRun, "carry_out", fail_twice)
    assert carry_out_sweep(runs) == [
        "quickstart-training.seed=1: OSError: [Errno 28] No space left on device",
        "quickstart-training.seed=2: ZeroDivisionError: division by zero",
    ]
    errors = capsys.readouterr().err
    assert errors.count("Traceback (most recent call last)") == 2
    assert "Run 3 of 3" in errors


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM)])
def test_signals_while_a_process_starts_reach_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: tuple[signal.Signals, ...]
) -> None:
    runs = plan_sweep(QUICKSTART, [], (1, 2), [runs_dir(tmp_path)])
    told = tmp_path / "told"
    # A process that starts faster than a run's. It writes down each signal, and ends soon after the first one.
    program = """
import signal, time
def note(number, frame):
    with open(told, "a") as file:
        print(number, file=file)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, note)
open(told, "w").close()
deadline = time.monotonic() + 5
while time.monotonic() < deadline:
    with open(told) as file:
        if file.read():
            deadline = min(deadline, time.monotonic() + 0.3)
    time.sleep(0.02)
"""

    def start(run: sweep.SweptRun, share: int) -> _Job:
        messages, _ = Pipe(duplex=False)
        process = get_context("spawn").Process(target=exec, args=(program, {"told": str(told)}))
        process.start()
        while not told.exists():
            time.sleep(0.01)
        for number in numbers:
            signal.raise_signal(number)
        return _Job(run, tmp_path / "log", process, messages)

    monkeypatch.setattr(sweep_jobs, "_start", start)
    with pytest.raises(RunInterrupted):
        carry_out_jobs(runs, 2)
    assert sorted(map(int, told.read_text().split())) == sorted(numbers)


def test_an_interruption_stops_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = plan_sweep(QUICKSTART, [], (1, 2), [runs_dir(tmp_path)])
    tried: list[RunFolder] = []

    def interrupt(run: sweep.SweptRun) -> None:
        tried.append(run.folder)
        raise RunInterrupted("interrupted after step 3", signal.SIGINT)

    monkeypatch.setattr(sweep.SweptRun, "carry_out", interrupt)
    with pytest.raises(RunInterrupted):
        carry_out_sweep(runs)
    assert tried == [runs[0].folder]


def test_a_dry_run_lists_the_runs(tmp_path: Path) -> None:
    words = ["sweep", QUICKSTART, "--seeds", "1,2", "--runs-dir", str(tmp_path), "--dry-run"]
    result = CliRunner().invoke(root, words)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"start     {tmp_path}/quickstart-training.seed=1",
        f"start     {tmp_path}/quickstart-training.seed=2",
    ]
    assert CliRunner().invoke(root, [*words, "--seed", "3"]).exit_code == 2
    twice = CliRunner().invoke(root, [*words, "--set", "training.epochs=1,2", "--epochs", "3"])
    assert "training.epochs is swept, and set by --epochs 3 too" in str(twice.exception)
    assert "no list of integers" in CliRunner().invoke(root, ["sweep", QUICKSTART, "--seeds", "1;2"]).output


def test_a_run_that_another_sweep_has_done_meanwhile_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = plan_sweep(QUICKSTART, [], (1, 2), [runs_dir(tmp_path)])

    def nothing_left(recipe: Recipe, path: Path, *, resume: bool) -> Plan:
        return Plan(recipe, RunFolder(path), resume, overwrite=False, stages=[])

    monkeypatch.setattr(sweep, "plan", nothing_left)
    assert not _is_done(runs[0])
    runs[0].folder.path.mkdir()
    runs[0].folder.write_recipe(runs[0].resolved.recipe)
    assert not runs[0].resume
    assert _is_done(runs[0])
    assert not _is_done(runs[1])

    def unreadable(recipe: Recipe, path: Path, *, resume: bool) -> Plan:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    # The run's own process says so, and the others are not held up.
    monkeypatch.setattr(sweep, "plan", unreadable)
    assert not _is_done(runs[0])


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (-signal.SIGKILL, "was killed by SIGKILL, as systems do"),
        (-40, "ended with status -40; see"),
        (3, "exit code 3"),
    ],
)
def test_the_end_of_a_process_without_a_word_is_told(tmp_path: Path, status: int, reason: str) -> None:
    (run, _) = plan_sweep(QUICKSTART, [], (1, 2), [runs_dir(tmp_path)])
    messages, writer = Pipe(duplex=False)
    writer.close()
    assert reason in _Job(run, tmp_path / "log", Mock(exitcode=status), messages).end()
