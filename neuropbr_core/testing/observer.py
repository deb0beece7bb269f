"""Conformance suite of observers.

A test of an author's package subclasses it:

    from neuropbr_core.testing.observer import ObserverSuite

    class TestJournal(ObserverSuite):
        use = "journal"
"""

import copy
import gc
import math
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from neuropbr_core.contracts import EpochSummary, Observer, RunInfo, StepInfo, ValidationSummary
from neuropbr_core.testing.component import ComponentSuite

Call = tuple[str, tuple[Any, ...]]
"""The name of an observer's method, and its arguments."""


@dataclass(frozen=True)
class ExampleRun:
    """The calls that a trainer makes during a small run, in order.

    Attributes:
        run_dir: The run's folder.
        epochs: Epochs planned.
        start_epoch: First epoch, from 0; above 0 for a run that is resumed.
        steps_per_epoch: Steps of an epoch; metrics are logged at every second one.
        critic: Whether there are critic losses.
        metric: Value of every metric.
        facts: Facts about the run, for people.
    """

    run_dir: Path
    epochs: int = 3
    start_epoch: int = 0
    steps_per_epoch: int = 4
    critic: bool = True
    metric: float = 0.25
    facts: dict[str, str] = field(default_factory=lambda: {"device": "cpu", "parameters": "1,234"})

    def calls(self) -> Iterator[Call]:
        """Yield every call of a run that ends as planned."""
        yield "run_started", (self.info(),)
        for epoch in range(self.start_epoch, self.epochs):
            yield from self.epoch_calls(epoch)
        yield "run_finished", (self.validation_metrics(),)

    def epoch_calls(self, epoch: int) -> Iterator[Call]:
        """Yield the calls of one epoch: its steps, its summary, its validation, its checkpoint.

        Args:
            epoch: The epoch, from 0.
        """
        first_step = epoch * self.steps_per_epoch
        last_step = first_step + self.steps_per_epoch
        for step in range(self.steps_per_epoch):
            # The global step counts finished steps, the current one included.
            info = StepInfo(epoch, step, self.steps_per_epoch, first_step + step + 1)
            yield "step_finished", (info,)
            # A run logs metrics less often than it steps.
            if step % 2:
                yield "metrics_logged", (info, {**self.losses(), "albedo/mae": self.metric, "lr": 1e-4})
        yield "epoch_finished", (EpochSummary(epoch, last_step, {**self.losses(), "seconds": 2.5}),)
        # Names of samples contain slashes, and pictures of one validation differ in size.
        name = "clean/brick_0001"
        grey = 40 * epoch
        images = {name: np.full((8, 8, 3), grey, np.uint8)}
        details = {
            f"{name}/views": np.full((4, 9, 3), grey, np.uint8),
            f"{name}/albedo": np.full((4, 9, 3), grey, np.uint8),
        }
        yield "validation_finished", (ValidationSummary(epoch, last_step, self.validation_metrics(), images, details),)
        # Checkpoints are numbered from 1.
        yield "checkpoint_saved", (self.run_dir / "checkpoints" / f"epoch_{epoch + 1:04d}", epoch == 0)

    def info(self) -> RunInfo:
        """Describe the run as a trainer does when it starts."""
        return RunInfo(
            name=self.run_dir.name,
            run_dir=self.run_dir,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            start_epoch=self.start_epoch,
            global_step=self.start_epoch * self.steps_per_epoch,
            recipe={"training": {"epochs": self.epochs}},
            facts=self.facts,
        )

    def losses(self) -> dict[str, float]:
        """Return training metrics."""
        losses = {"loss/total": self.metric, "loss/l1": self.metric}
        if self.critic:
            losses["critic/total"] = self.metric
        return losses

    def validation_metrics(self) -> dict[str, float]:
        """Return validation metrics."""
        return dict.fromkeys(("loss", "albedo/psnr", "roughness/mae", "metallic/mae", "normal/angle"), self.metric)


def tell(observer: Observer, calls: Iterator[Call]) -> None:
    """Make calls on an observer.

    Args:
        observer: The observer.
        calls: The calls. An exception passes through; a run would report it and go on.
    """
    for method, arguments in calls:
        getattr(observer, method)(*arguments)


class ObserverSuite(ComponentSuite):
    """Tests of everything that the core relies on in an observer (`neuropbr_core.contracts.Observer`).

    An observer watches runs that end as planned, end early, are resumed, or leave calls out.
    """

    kind: ClassVar[str] = "observer"

    @pytest.fixture
    def run_dir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A run's folder; the current folder is an empty folder beside it."""
        folder = tmp_path / "runs" / "example"
        folder.mkdir(parents=True)
        # A file that the observer writes to the current folder by mistake is found there.
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        return folder

    def create_from_defaults(self, folder: Path) -> None:
        """Build the observer from default options."""
        self.create(self.options_type()(), run_dir=folder / "runs" / "example")

    def test_building_it_writes_nothing(self, options: Any, tmp_path: Path) -> None:
        """Observers are built before the run's folder exists, and before it is known that the run can start."""
        self.create(options, run_dir=tmp_path / "runs" / "example")
        written = list(tmp_path.iterdir())
        assert not written, (
            f"an observer must write nothing before its first call, because the run may not start, but create_observer "
            f"wrote {written}"
        )

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
        """No method relies on an earlier call: a run may fail, or leave out validation, at any point."""
        # A new observer for each call has had no earlier one.
        for call in ExampleRun(run_dir, epochs=1).calls():
            tell(self.create(options, run_dir=run_dir), iter([call]))
        tell(self.create(options, run_dir=run_dir), iter([("run_failed", (RuntimeError("no device"),))]))

    def test_a_run_may_fail_after_any_call(self, options: Any, run_dir: Path) -> None:
        """An error or Ctrl-C may follow every call."""
        calls = list(ExampleRun(run_dir, epochs=1).calls())
        for end in range(1, len(calls)):
            observer = self.create(options, run_dir=run_dir)
            # Alternately stopped by the user and by a fault.
            error: BaseException = RuntimeError("out of memory")
            if end % 2:
                error = KeyboardInterrupt()
            tell(observer, iter([*calls[:end], ("run_failed", (error,))]))

    @pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
    def test_survives_metrics_that_are_not_finite(self, options: Any, run_dir: Path, metric: float) -> None:
        """A diverging run is watched to its end."""
        # Not every format can hold NaN: JSON cannot.
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
        # Deep, because a change inside an event's dictionary is a change too.
        before = copy.deepcopy(calls)
        tell(self.create(options, run_dir=run_dir), iter(calls))
        for (method, arguments), (_, expected) in zip(calls, before, strict=True):
            # Compared as text, because `==` of events with arrays has no single truth value.
            assert repr(arguments) == repr(expected), (
                f"an observer must not change events, which all observers share, but {method} changed what it was "
                f"given: expected {expected}, got {arguments}"
            )

    def test_keeps_nothing_of_a_run_that_ended(self, options: Any, run_dir: Path) -> None:
        """After the last call the events, and the pictures in them, can be freed."""
        observer = self.create(options, run_dir=run_dir)
        calls = list(ExampleRun(run_dir, epochs=1).calls())
        tell(observer, iter(calls))
        references = _weak_references(calls)
        assert references, "the example run must have events, but has none: `ExampleRun.calls` is at fault"
        del calls
        # Cycles are no fault of the observer; the collector frees them.
        gc.collect()
        held: list[object] = []
        for reference in references:
            event = reference()
            if event is not None:
                held.append(event)
        assert not held, (
            f"an observer must keep no event after the run, because pictures take memory, but the observer still holds "
            f"{held}"
        )

    def test_writes_inside_the_run_only(self, options: Any, run_dir: Path, tmp_path: Path) -> None:
        """Files appear in the run's folder and nowhere else, and none is left half-written."""
        tell(self.create(options, run_dir=run_dir), ExampleRun(run_dir).calls())
        outside: list[Path] = []
        temporary: list[Path] = []
        for path in tmp_path.rglob("*"):
            if path.is_file() and not path.is_relative_to(run_dir):
                outside.append(path)
            if path.is_file() and path.suffix in {".tmp", ".part"}:
                temporary.append(path)
        assert not outside, (
            f"an observer must write to the run's folder only, but has written outside the run: {outside}"
        )
        assert not temporary, f"an observer must leave no temporary file, but has left behind: {temporary}"


def _weak_references(calls: Iterable[Call]) -> list[weakref.ref[Any]]:
    """Refer to all events of calls, and to the pictures in them, without keeping them alive."""
    references: list[weakref.ref[Any]] = []
    for _, arguments in calls:
        for argument in arguments:
            # Numbers and dictionaries have no weak references.
            if hasattr(argument, "__weakref__"):
                references.append(weakref.ref(argument))
            if isinstance(argument, ValidationSummary):
                pictures = [*argument.images.values(), *argument.details.values()]
                references += [weakref.ref(picture) for picture in pictures]
    return references
