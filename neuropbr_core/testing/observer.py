"""What every observer must do; authors of observers subclass `ObserverSuite` in their own tests.

from neuropbr_core.testing.observer import ObserverSuite

class TestJournal(ObserverSuite):
    use = "journal"
"""

import copy
import gc
import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from neuropbr_core.contracts import EpochSummary, Observer, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.testing.component import ComponentSuite

Call = tuple[str, tuple[Any, ...]]
"""A method of an observer, and what it is called with."""


@dataclass(frozen=True)
class ExampleRun:
    """The calls that a trainer makes in a small run, in order.

    Attributes:
        run_dir: The run's folder.
        epochs: Epochs planned.
        start_epoch: First epoch, from 0; above 0 for a run that is resumed.
        steps_per_epoch: Steps of an epoch; metrics are logged at every second one.
        critic: Whether there are critic losses.
        metric: Value of every metric.
    """

    run_dir: Path
    epochs: int = 3
    start_epoch: int = 0
    steps_per_epoch: int = 4
    critic: bool = True
    metric: float = 0.25
    facts: dict[str, str] = field(default_factory=lambda: {"device": "cpu", "parameters": "1,234"})

    def calls(self) -> Iterator[Call]:
        """Every call of a run that ends as planned."""
        yield "run_started", (self.info(),)
        for epoch in range(self.start_epoch, self.epochs):
            yield from self.epoch_calls(epoch)
        yield "run_finished", (self.validation_metrics(),)

    def epoch_calls(self, epoch: int) -> Iterator[Call]:
        """The calls of one epoch: its steps, its summary, its validation, its checkpoint."""
        done = (epoch + 1) * self.steps_per_epoch
        for step in range(self.steps_per_epoch):
            info = StepInfo(epoch, step, self.steps_per_epoch, epoch * self.steps_per_epoch + step + 1)
            yield "step_finished", (info,)
            if step % 2:
                yield "metrics_logged", (info, {**self.losses(), "albedo/mae": self.metric, "lr": 1e-4})
        yield "epoch_finished", (EpochSummary(epoch, done, {**self.losses(), "seconds": 2.5}),)
        images = {"clean/brick_0001": np.full((8, 8, 3), 40 * epoch, np.uint8)}
        details = {f"clean/brick_0001/{part}": np.full((4, 9, 3), 40 * epoch, np.uint8) for part in ("views", "albedo")}
        yield "validation_finished", (ValidationSummary(epoch, done, self.validation_metrics(), images, details),)
        yield "checkpoint_saved", (self.run_dir / "checkpoints" / f"epoch_{epoch + 1:04d}", epoch == 0)

    def info(self) -> RunInfo:
        """The run that starts."""
        recipe: dict[str, object] = {"training": {"epochs": self.epochs}}
        return RunInfo(
            self.run_dir.name,
            self.run_dir,
            self.epochs,
            self.steps_per_epoch,
            self.start_epoch,
            self.start_epoch * self.steps_per_epoch,
            recipe,
            self.facts,
        )

    def losses(self) -> dict[str, float]:
        """Training metrics."""
        names = ("loss/total", "loss/l1", "critic/total") if self.critic else ("loss/total", "loss/l1")
        return dict.fromkeys(names, self.metric)

    def validation_metrics(self) -> dict[str, float]:
        """Validation metrics."""
        return dict.fromkeys(("loss", "albedo/psnr", "roughness/mae", "metallic/mae", "normal/angle"), self.metric)


def tell(observer: Observer, calls: Iterator[Call]) -> None:
    """Make calls on an observer; unlike in a run, what it raises is raised."""
    for method, arguments in calls:
        getattr(observer, method)(*arguments)


class ObserverSuite(ComponentSuite):
    """Takes an observer through runs that end well, end early, start again, or leave calls out."""

    kind: ClassVar[str] = "observer"

    @pytest.fixture
    def run_dir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A run's folder; the current folder is an empty one beside it."""
        folder, elsewhere = tmp_path / "runs" / "example", tmp_path / "elsewhere"
        folder.mkdir(parents=True)
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        return folder

    def test_building_it_writes_nothing(self, options: Any, tmp_path: Path) -> None:
        """It is built before the run's folder is there, and before anything says that the run can start."""
        self.create(options, run_dir=tmp_path / "runs" / "example")
        assert not list(tmp_path.iterdir()), "it wrote something when it was built: wait for the first call"

    def test_watches_a_whole_run(self, options: Any, run_dir: Path) -> None:
        """A run with critic, validation, pictures and checkpoints raises nothing."""
        tell(self.create(options, run_dir=run_dir), ExampleRun(run_dir).calls())

    def test_watches_a_run_without_critic(self, options: Any, run_dir: Path) -> None:
        """Critic losses are optional."""
        tell(self.create(options, run_dir=run_dir), ExampleRun(run_dir, critic=False).calls())

    def test_watches_a_resumed_run(self, options: Any, run_dir: Path) -> None:
        """A second observer continues, in the same folder, a run that ended after its second epoch."""
        tell(self.create(options, run_dir=run_dir), ExampleRun(run_dir, epochs=2).calls())
        tell(self.create(options, run_dir=run_dir), ExampleRun(run_dir, start_epoch=1).calls())

    def test_any_call_may_be_the_only_one(self, options: Any, run_dir: Path) -> None:
        """No method relies on another having been called: a run may fail, or leave out validation, at any point."""
        for call in ExampleRun(run_dir, epochs=1).calls():
            tell(self.create(options, run_dir=run_dir), iter([call]))
        tell(self.create(options, run_dir=run_dir), iter([("run_failed", (RuntimeError("no device"),))]))

    def test_a_run_may_fail_after_any_call(self, options: Any, run_dir: Path) -> None:
        """An error or Ctrl-C may follow every call."""
        calls = list(ExampleRun(run_dir, epochs=1).calls())
        for end in range(1, len(calls)):
            observer = self.create(options, run_dir=run_dir)
            error = KeyboardInterrupt() if end % 2 else RuntimeError("out of memory")
            tell(observer, iter([*calls[:end], ("run_failed", (error,))]))

    @pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
    def test_survives_metrics_that_are_not_finite(self, options: Any, run_dir: Path, metric: float) -> None:
        """A diverging run is watched to its end."""
        tell(self.create(options, run_dir=run_dir), ExampleRun(run_dir, metric=metric).calls())

    def test_survives_no_metrics(self, options: Any, run_dir: Path) -> None:
        """Metrics and pictures may be empty."""
        info = StepInfo(0, 0, 1, 1)
        calls: list[Call] = [
            ("metrics_logged", (info, {})),
            ("epoch_finished", (EpochSummary(0, 1, {}),)),
            ("validation_finished", (ValidationSummary(0, 1, {}, {}),)),
            ("run_finished", ({},)),
        ]
        tell(self.create(options, run_dir=run_dir), iter(calls))

    def test_leaves_events_as_they_are(self, options: Any, run_dir: Path) -> None:
        """Observers share events: none may change one."""
        calls = list(ExampleRun(run_dir, epochs=1).calls())
        before = copy.deepcopy(calls)
        tell(self.create(options, run_dir=run_dir), iter(calls))
        for (method, arguments), (_, expected) in zip(calls, before, strict=True):
            assert repr(arguments) == repr(expected), f"{method} changed what it was given"

    def test_keeps_nothing_of_a_run_that_ended(self, options: Any, run_dir: Path) -> None:
        """After the last call the events, and the pictures in them, can be freed."""
        observer = self.create(options, run_dir=run_dir)
        calls = list(ExampleRun(run_dir, epochs=1).calls())
        tell(observer, iter(calls))
        watched = [weakref.ref(part) for _, arguments in calls for part in arguments if hasattr(part, "__weakref__")]
        watched += [
            weakref.ref(picture)
            for _, (first, *_rest) in calls
            if isinstance(first, ValidationSummary)
            for picture in (*first.images.values(), *first.details.values())
        ]
        assert watched
        del calls
        gc.collect()
        kept = [reference() for reference in watched if reference() is not None]
        assert not kept, f"the observer still holds {kept}"

    def test_writes_inside_the_run_only(self, options: Any, run_dir: Path, tmp_path: Path) -> None:
        """Files appear in the run's folder and nowhere else, and none is left half-written."""
        tell(self.create(options, run_dir=run_dir), ExampleRun(run_dir).calls())
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        outside = [path for path in written if not path.is_relative_to(run_dir)]
        assert not outside, f"written outside the run: {outside}"
        left = [path for path in written if path.suffix in {".tmp", ".part"}]
        assert not left, f"left behind: {left}"
