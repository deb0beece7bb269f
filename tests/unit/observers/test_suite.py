"""The suite for observers finds the faults that it is there for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuropbr_core.contracts import EpochSummary, Observer, StepInfo, ValidationSummary
from neuropbr_core.testing.observer import ObserverSuite


class Careful(Observer):
    """Does nothing."""


class KeepsEvents(Observer):
    """Holds the last validation, with its pictures."""

    def validation_finished(self, summary: ValidationSummary) -> None:
        self.last = summary


class WritesElsewhere(Observer):
    """Writes to the current folder."""

    def epoch_finished(self, summary: EpochSummary) -> None:
        Path("log.txt").write_text(str(summary.epoch))


class LeavesTemporaryFiles(Observer):
    """Forgets to rename."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def epoch_finished(self, summary: EpochSummary) -> None:
        (self.run_dir / "log.txt.tmp").write_text(str(summary.epoch))


class ChangesMetrics(Observer):
    """Takes a metric out of the event that others will see."""

    def metrics_logged(self, info: StepInfo, metrics: dict[str, float]) -> None:
        metrics.pop("lr")


class NeedsAStart(Observer):
    """Uses in one call what another one sets."""

    def run_started(self, info: Any) -> None:
        self.seen = 0

    def step_finished(self, info: StepInfo) -> None:
        self.seen += 1


class RoundsLosses(Observer):
    """Breaks when a loss is not finite."""

    def epoch_finished(self, summary: EpochSummary) -> None:
        round(summary.metrics.get("loss/total", 0.0))


def suite_of(make: Callable[[Path], Observer]) -> ObserverSuite:
    class Suite(ObserverSuite):
        @classmethod
        def create(cls, options: Any, **context: Any) -> Observer:
            return make(context["run_dir"])

    return Suite()


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return folder


def test_an_observer_that_keeps_the_rules_passes(run_dir: Path, tmp_path: Path) -> None:
    suite = suite_of(lambda _: Careful())
    suite.test_watches_a_resumed_run(None, run_dir)
    suite.test_any_call_may_be_the_only_one(None, run_dir)
    suite.test_a_run_may_fail_after_any_call(None, run_dir)
    suite.test_leaves_events_as_they_are(None, run_dir)
    suite.test_keeps_nothing_of_a_run_that_ended(None, run_dir)
    suite.test_writes_inside_the_run_only(None, run_dir, tmp_path)


def test_an_observer_that_keeps_events_fails(run_dir: Path) -> None:
    with pytest.raises(AssertionError, match="the observer still holds"):
        suite_of(lambda _: KeepsEvents()).test_keeps_nothing_of_a_run_that_ended(None, run_dir)


def test_an_observer_that_writes_elsewhere_fails(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"written outside the run: .*log\.txt"):
        suite_of(lambda _: WritesElsewhere()).test_writes_inside_the_run_only(None, run_dir, tmp_path)


def test_an_observer_that_leaves_temporary_files_fails(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"left behind: .*log\.txt\.tmp"):
        suite_of(LeavesTemporaryFiles).test_writes_inside_the_run_only(None, run_dir, tmp_path)


def test_an_observer_that_changes_events_fails(run_dir: Path) -> None:
    with pytest.raises(AssertionError, match="metrics_logged changed what it was given"):
        suite_of(lambda _: ChangesMetrics()).test_leaves_events_as_they_are(None, run_dir)


def test_an_observer_that_needs_an_earlier_call_fails(run_dir: Path) -> None:
    with pytest.raises(AttributeError, match="seen"):
        suite_of(lambda _: NeedsAStart()).test_any_call_may_be_the_only_one(None, run_dir)


def test_an_observer_that_breaks_on_nan_fails(run_dir: Path) -> None:
    with pytest.raises(ValueError, match="NaN"):
        suite_of(lambda _: RoundsLosses()).test_survives_metrics_that_are_not_finite(None, run_dir, float("nan"))
