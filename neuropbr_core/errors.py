"""The exceptions that users see.

    NeuroPBRError
    ├── RecipeError             a recipe, or a `--set` on top of it, is wrong
    ├── PluginError             a component cannot be used
    │   ├── PluginNotFound      no distribution offers that name
    │   ├── PluginCollision     several distributions offer it
    │   ├── PluginBlocked       it was blocked by name
    │   └── PluginBroken        it is there, but does not load, or breaks its contract
    ├── ScaffoldError           a plugin's package cannot be written or changed
    ├── DataError               a dataset, image or camera file is missing or unusable
    ├── ModelError              the parts of a model do not fit together
    ├── CheckpointError         weights or resume state are missing, damaged or of another model
    ├── RunError                a run cannot start, continue or finish
    │   └── RunStopped          it cannot go on; each of its processes knows
    │       └── RunInterrupted  the user or the system asked it to stop; it saved and can be resumed
    ├── DeviceError             the device that was asked for is not there
    ├── ExportError             an export failed or does not equal its model
    └── PackageError            maps cannot be packaged for a target

Every message says where, what was found, what is allowed and what to do. The command line prints it without a
traceback and exits with 1 (`--debug` shows the traceback).
"""

from dataclasses import dataclass


class NeuroPBRError(Exception):
    """Base of all errors that a user's input or machine can cause."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong at one place of a recipe.

    Attributes:
        file: The recipe's path, or `--set` for an override given on the command line.
        line: Line in `file`, from 1; for `--set`, the override's position on the command line.
        column: Column in that line, from 1.
        path: The key in dotted form, such as `losses.l1.weight`; empty for the document itself.
        message: What was found, what is allowed, and the nearest valid name where there is one.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """The form that editors and people can jump to."""
        place = f"{self.file}:{self.line}:{self.column}"
        if not self.path:
            return f"{place}: {self.message}"
        return f"{place} {self.path}: {self.message}"


class RecipeError(NeuroPBRError):
    """One or more problems in a recipe, in the order of their places."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep `problems` sorted by place; the message has one line for each."""
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


class PluginError(NeuroPBRError):
    """A component cannot be used."""


class PluginNotFound(PluginError):
    """No installed distribution offers a component of that kind and name."""


class PluginCollision(PluginError):
    """Two or more distributions offer the same kind and name."""


class PluginBlocked(PluginError):
    """The component was blocked with `--block` or `NEUROPBR_BLOCK_PLUGINS`."""


class PluginBroken(PluginError):
    """The component does not import, misses a hook, states another API version or breaks its contract."""


class ScaffoldError(NeuroPBRError):
    """The package of a plugin cannot be written, extended or updated."""


class DataError(NeuroPBRError):
    """A dataset, an image or a camera file is missing or unusable."""


class ModelError(NeuroPBRError):
    """The parts of a model, or a model and its input, do not fit together."""


class CheckpointError(NeuroPBRError):
    """Weights or resume state are missing, damaged, or belong to another model."""


class RunError(NeuroPBRError):
    """A run cannot start, continue or finish."""


class RunStopped(RunError):
    """A run cannot go on; raised by all its processes at the same point, so that the first one may speak for all."""


class RunInterrupted(RunStopped):
    """A signal asked the run to stop; it finished its step and saved."""

    def __init__(self, message: str, signal: int) -> None:
        """Keep the signal's number: 2 for Ctrl-C, 15 for SIGTERM."""
        self.signal = signal
        super().__init__(message)


class DeviceError(NeuroPBRError):
    """The device that was asked for is not available on this machine."""


class ExportError(NeuroPBRError):
    """An export failed, or its output does not equal the model it came from."""


class PackageError(NeuroPBRError):
    """Maps cannot be packaged for a target."""
