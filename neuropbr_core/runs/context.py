"""What the stages of one run share: the processes, and the data once they are open."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from lightning_fabric import Fabric

from neuropbr_core.recipe.sections import Training
from neuropbr_core.training.device import make_fabric
from neuropbr_core.training.ranks import end_others, first

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
    """

    def __init__(self, training: Training | None = None) -> None:
        self._training = training
        self._launched = False
        self.dataset: OpenedDataset | None = None
        self.require_lock: Callable[[], None] | None = None

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
        """Do something in the first process while the others wait; see `ranks.first`."""
        if self.processes == 1:
            return work()  # without a launch: a teacher's run may come first
        return first(self.fabric, work)
