"""The stages of a run: what each one has in common, what they share, and how they are carried out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from neuropbr_core.errors import RunStopped
from neuropbr_core.lock import FolderLock
from neuropbr_core.recipe.sections import Recipe, Training
from neuropbr_core.reporting import SilentReporter, doing, reporter, reporting_to
from neuropbr_core.runs.folder import RunFolder, check_start
from neuropbr_core.training.fabric import end_others, first, make_fabric, tune_for
from neuropbr_core.training.lightning import Fabric

if TYPE_CHECKING:
    from neuropbr_core.data.opening import OpenedDataset


T = TypeVar("T")


class Context:
    """The processes of a run, and its dataset.

    Fabric is launched when a stage asks for it first, and not before: the stages that come earlier may be runs of their
    own, with a Fabric of their own.

    Args:
        training: Section `training` of the recipe; None for a stage that is executed alone and needs no Fabric.

    Attributes:
        dataset: The dataset of the run, once a stage has opened it, for the stages that follow.
        require_lock: Raises when the run has been taken over by another process; None for a run without a lock.
        prepared: Called when all is there that other runs may share: captures, packed images, the teacher and its
            predictions. It may be called several times.
    """

    def __init__(self, training: Training | None = None) -> None:
        self._training = training
        self._launched = False
        self.dataset: OpenedDataset | None = None
        self.require_lock: Callable[[], None] | None = None
        self.prepared: Callable[[], None] = lambda: None

    @cached_property
    def _fabric(self) -> Fabric:
        """Fabric before it is launched."""
        if self._training is None:
            raise ValueError("a context without section `training` has no Fabric")
        return make_fabric(self._training)

    @property
    def fabric(self) -> Fabric:
        """The processes and their devices, launched.

        Raises:
            DeviceError: The devices are not there, or cannot do the precision or the strategy.
        """
        if not self._launched:
            # With several processes this starts the others, which execute the same command from its beginning and
            # meet this one here. So nothing may have been written before.
            self._fabric.launch()
            self._launched = True
        if self._training is not None:
            # Each time: a teacher's run may have set the switches of this process for its own precision meanwhile.
            tune_for(self._training, self._fabric.device)
        return self._fabric

    @property
    def processes(self) -> int:
        """Processes of the run, on all machines; known before they are launched."""
        return self._fabric.world_size

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and talks to people."""
        return self.processes == 1 or self.fabric.is_global_zero

    def end_others(self) -> None:
        """End the processes that this one started; they could only wait for it."""
        if self._launched:
            end_others(self._fabric)

    def first(self, work: Callable[[], T]) -> T:
        """Do something in the first process while the others wait; see `fabric.first`."""
        if self.processes == 1:
            return work()  # without a launch: a teacher's run may come first
        return first(self.fabric, work)


class Stage(ABC):
    """One part of a run, such as training or an export.

    Attributes:
        name: A word for listings.
        alone: Whether the first process executes it alone, after the others have ended.
    """

    name: ClassVar[str]
    alone: ClassVar[bool] = False

    @abstractmethod
    def done(self) -> bool:
        """Whether nothing is left to do; reads files, and changes nothing."""

    @abstractmethod
    def describe(self) -> list[str]:
        """Lines for people: each a place, and what is there or will be made."""

    @abstractmethod
    def execute(self, context: Context) -> None:
        """Do it."""


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        recipe: The recipe.
        folder: Where the run lives.
        resume: Whether a run that is there is continued.
        overwrite: Whether a run that is there is replaced.
        stages: The parts of the run, in order.
    """

    recipe: Recipe
    folder: RunFolder
    resume: bool
    overwrite: bool
    stages: Sequence[Stage]

    def lines(self) -> list[str]:
        """The descriptions of the stages, each behind the stage's name."""
        lines: list[str] = []
        for stage in self.stages:
            lines.extend(f"{stage.name:<10}{text}" for text in stage.describe())
        return lines

    def is_done(self) -> bool:
        """Whether a resumed run has nothing left to do."""
        return self.resume and all(stage.done() for stage in self.stages)


def carry_out(plan: Plan, prepared: Callable[[], None] | None = None) -> Path:
    """Execute the stages of a plan that are not done, and let no other process write the run meanwhile.

    Args:
        plan: The plan.
        prepared: As `Context.prepared`.

    Returns:
        The run's folder.

    Raises:
        RunError: Another process writes the run, or the run cannot start, continue or finish.
        NeuroPBRError: As the stages.
    """
    # A context of its own, because a teacher's run may have other devices than its student's.
    context = Context(plan.recipe.training)
    if prepared is not None:
        context.prepared = prepared
    # The first process speaks for all. Several processes are started here, before anything is written.
    speaker = reporter() if context.is_first else SilentReporter()
    task = "writes this run; wait for it or stop it, or choose another name with --run-name"
    lock = FolderLock(plan.folder.path, task)
    context.require_lock = lock.require
    with reporting_to(speaker):
        try:
            context.first(lock.acquire)
            # The folder was looked at when the plan was made; another process may have written a run into it since.
            context.first(lambda: check_start(plan.folder, resume=plan.resume, overwrite=plan.overwrite))
            _execute(plan, context)
        except RunStopped:
            if context.is_first:
                raise  # the first process reports the error; the others end in silence
        except BaseException:
            # Also after Ctrl-C: they would wait for a message from this process.
            context.end_others()
            raise
        finally:
            lock.release()  # last, when nothing is written any more
    return plan.folder.path


def _execute(plan: Plan, context: Context) -> None:
    if plan.resume:
        if context.first(plan.is_done):
            for line in plan.lines():
                reporter().line(line)
            reporter().line(f"Nothing is left to do: {plan.folder.path}")
            return
        # The recipe may have changed in what a run can be continued with, such as the epochs or the exports.
        context.first(lambda: plan.folder.write_recipe(plan.recipe))
    for stage in plan.stages:
        if stage.alone and not context.is_first:
            return  # evaluation and exports may take longer than other processes can wait for a message
        if stage.alone:
            context.prepared()  # the training is over, or was skipped
            done = stage.done()
        else:
            # The first process decides for all: processes that decided differently would wait for each other forever.
            done = context.first(stage.done)
        if not done:
            with doing(f"stage {stage.name}"):
                stage.execute(context)
        elif plan.resume:
            for text in stage.describe():
                reporter().line(f"Skipping {stage.name}: {text}")
    if context.is_first:
        reporter().line(f"Run finished: {plan.folder.path}")
