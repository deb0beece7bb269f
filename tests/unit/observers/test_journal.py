import json
import math
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from neuropbr_core.contracts import EpochSummary, StepInfo
from neuropbr_core.errors import DataError
from neuropbr_core.observers.journal.journal import FILE_NAME, JournalObserver, read_journal
from neuropbr_core.testing.observer import ExampleRun, ObserverSuite, tell


class TestJournal(ObserverSuite):
    use = "journal"


def test_every_event_is_a_row_in_order(tmp_path: Path) -> None:
    tell(JournalObserver(tmp_path), ExampleRun(tmp_path, epochs=2).calls())
    rows = read_journal(tmp_path)
    epoch = ["train", "train", "epoch", "validation", "checkpoint"]
    assert [row["event"] for row in rows] == ["run_started", *epoch, *epoch, "run_finished"]
    assert [row["step"] for row in rows] == [0, 2, 4, 4, 4, 4, 6, 8, 8, 8, 8, 8]
    assert [row["epoch"] for row in rows] == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert rows[1]["loss/total"] == 0.25
    assert rows[3]["seconds"] == 2.5
    assert rows[4]["albedo/psnr"] == 0.25
    assert rows[5] | {"path": "checkpoints/epoch_0001", "best": True} == rows[5]
    assert rows[0] | {"run": tmp_path.name, "epochs": 2, "steps_per_epoch": 4, "resumed": False} == rows[0]


def test_times_are_utc(tmp_path: Path) -> None:
    tell(JournalObserver(tmp_path), ExampleRun(tmp_path, epochs=1).calls())
    times = [datetime.fromisoformat(row["time"]) for row in read_journal(tmp_path)]
    assert all(time.utcoffset() == timedelta(0) for time in times)
    assert times == sorted(times)


def test_a_row_is_in_the_file_as_soon_as_it_was_told(tmp_path: Path) -> None:
    observer = JournalObserver(tmp_path)
    observer.metrics_logged(StepInfo(0, 9, 100, 10), {"loss/total": 0.5})
    assert (tmp_path / FILE_NAME).read_text().endswith("\n")
    assert read_journal(tmp_path / FILE_NAME)[0]["loss/total"] == 0.5


def test_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    calls = list(ExampleRun(tmp_path, epochs=3).calls())
    tell(JournalObserver(tmp_path), iter(calls[:14]))  # killed within the second epoch
    assert max(row["step"] for row in read_journal(tmp_path)) > 4
    tell(JournalObserver(tmp_path), ExampleRun(tmp_path, epochs=3, start_epoch=1).calls())
    rows = read_journal(tmp_path)
    assert [row["step"] for row in rows if row["event"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert [row["epoch"] for row in rows if row["event"] == "epoch"] == [1, 2, 3]
    starts = [row for row in rows if row["event"] == "run_started"]
    assert [(row["resumed"], row["step"]) for row in starts] == [(False, 0), (True, 4)]


def test_resuming_drops_a_line_that_was_half_written(tmp_path: Path) -> None:
    tell(JournalObserver(tmp_path), iter(list(ExampleRun(tmp_path).calls())[:10]))
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"event": "train", "st')
    assert len(read_journal(tmp_path)) == 6
    JournalObserver(tmp_path).run_started(ExampleRun(tmp_path, start_epoch=1).info())
    assert [row["event"] for row in read_journal(tmp_path)][-2:] == ["checkpoint", "run_started"]
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(("value", "name"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_what_json_cannot_say_is_null_and_noted(tmp_path: Path, value: float, name: str) -> None:
    JournalObserver(tmp_path).epoch_finished(EpochSummary(0, 4, {"loss/total": value, "loss/l1": 0.5}))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    row = json.loads((tmp_path / FILE_NAME).read_text(), parse_constant=refuse)
    assert row["loss/total"] is None
    assert row["loss/l1"] == 0.5
    assert row["non_finite"] == {"loss/total": name}


def test_metrics_cannot_overwrite_what_every_row_has(tmp_path: Path) -> None:
    JournalObserver(tmp_path).epoch_finished(EpochSummary(0, 4, {"step": 99.0, "event": 1.0}))
    row = read_journal(tmp_path)[0]
    assert (row["event"], row["step"]) == ("epoch", 4)


def test_a_failure_says_why_and_where(tmp_path: Path) -> None:
    observer = JournalObserver(tmp_path)
    observer.step_finished(StepInfo(1, 2, 4, 7))
    observer.run_failed(RuntimeError("out of memory\nhere\u2028"))
    row = read_journal(tmp_path)[0]
    assert row | {"epoch": 2, "step": 7, "error": "RuntimeError", "message": "out of memory\nhere\u2028"} == row


def test_a_journal_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics\.jsonl: the journal cannot be read \(No such file or directory\)"):
        read_journal(tmp_path / FILE_NAME)
    (tmp_path / FILE_NAME).write_text('{"event": "train"}\nrubbish\n{"event": "epoch"}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not a JSON object: 'rubbish'"):
        read_journal(tmp_path)
