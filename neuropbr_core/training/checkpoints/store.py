"""Checkpoints of a run: written aside, synced, checksummed, renamed; `best` and `latest` are pointer files."""

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
from safetensors import SafetensorError

from neuropbr_core.errors import CheckpointError
from neuropbr_core.files import replacing, write_json, write_text
from neuropbr_core.reading import open_bytes, read_json, read_text

MANIFEST = "manifest.json"
BEST = "best"
LATEST = "latest"

_NAME = re.compile(r"epoch_\d{1,9}(_step_\d{1,12})?")
"""Names of checkpoints; nothing else in the folder counts."""

_LARGEST_POINTER = 4096


class CheckpointStore:
    """The folder `checkpoints/` of a run.

    Args:
        folder: Where checkpoints live; made when the first one is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_run(cls, run: Path) -> "CheckpointStore":
        """The checkpoints of the run in a folder."""
        return cls(run / "checkpoints")

    def save(self, name: str, write: Callable[[Path], None]) -> Path:
        """Save a checkpoint so that it is there whole or not at all.

        Args:
            name: Its folder's name, such as `epoch_0004`.
            write: Writes the files into the folder it is given.

        Raises:
            CheckpointError: Writing failed (a full disk, for example); earlier checkpoints are untouched.
        """
        final = self.folder / name
        try:
            # Durable: whatever has its final name must be whole, even after a crash of the machine.
            with replacing(final, durable=True) as aside:
                aside.mkdir()
                write(aside)
                digests = {file.name: _digest(file) for file in sorted(aside.iterdir())}
                write_json(aside / MANIFEST, {"sha256": digests})
        except (OSError, SafetensorError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            left = "earlier checkpoints are untouched"
            if not self.names():
                left = "the run has no checkpoint yet"
            raise CheckpointError(f"{final}: could not be saved ({error}); {left}") from error
        return final

    def point(self, pointer: str, name: str) -> None:
        """Let `best` or `latest` name a checkpoint.

        Raises:
            CheckpointError: The pointer could not be written (a full disk, for example) and is as it was.
        """
        try:
            write_text(self.folder / pointer, name + "\n")
        except OSError as error:
            raise CheckpointError(
                f"{self.folder / pointer}: could not be written ({error}); checkpoint {name} is saved, and --resume "
                f"goes on from it"
            ) from error

    def pointed(self, pointer: str) -> str | None:
        """Name of the checkpoint that a pointer names; None when there is no pointer, or it is damaged."""
        try:
            name = read_text(self.folder / pointer, largest=_LARGEST_POINTER).strip()
        except (OSError, ValueError):
            return None
        # A pointer from elsewhere must not lead to another folder.
        if _NAME.fullmatch(name) is None:
            return None
        return name

    def names(self) -> list[str]:
        """Names of all complete checkpoints, oldest first."""
        return sorted((path.name for path in self._folders() if (path / MANIFEST).is_file()), key=_age)

    def incomplete(self) -> list[str]:
        """What is wrong with folders of checkpoints that cannot be checked, one line for each, newest first."""
        problems = []
        for path in sorted(self._folders(), key=lambda path: _age(path.name), reverse=True):
            if not (path / MANIFEST).is_file():
                problems.append(f"{path}: has no {MANIFEST}, so nothing shows whether it is whole; it is not used")
        return problems

    def _folders(self) -> list[Path]:
        return [path for path in self.folder.glob("epoch_*") if _NAME.fullmatch(path.name) and path.is_dir()]

    def epoch(self) -> int | None:
        """Epochs that were complete at the newest checkpoint; None without a checkpoint."""
        names = self.names()
        if not names:
            return None
        return _age(names[-1])[0]

    def is_sound(self, name: str) -> bool:
        """Whether there is a checkpoint of that name, undamaged."""
        try:
            verify(self.folder / name)
        except CheckpointError:
            return False
        return True

    def is_complete(self, epochs: int) -> bool:
        """Whether training has come to the end of `epochs` epochs, and `latest` and `best` are sound.

        `latest` is written last when a checkpoint is saved. So where it names the last epoch, `best` is settled too.
        """
        latest = self.pointed(LATEST)
        best = self.pointed(BEST)
        if latest is None or best is None or _age(latest) < [epochs]:
            return False
        return self.is_sound(latest) and self.is_sound(best)

    def keep_only(self, names: set[str]) -> None:
        """Remove every checkpoint that is not named."""
        for name in self.names():
            if name not in names:
                # Half of a checkpoint that a killed process leaves fails its checksums and is not used.
                shutil.rmtree(self.folder / name)

    def open(self, name: str) -> Path:
        """Folder of a checkpoint.

        Args:
            name: `best`, `latest` or a checkpoint's name.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        pointed: str | None = name
        if name in (BEST, LATEST):
            pointed = self.pointed(name)
        if pointed not in self.names():
            known = "none; did the run finish an epoch?"
            if self.names():
                known = ", ".join([BEST, LATEST, *self.names()])
            message = f"{self.folder}: there is no checkpoint {name!r}; there are: {known}"
            raise CheckpointError("\n".join([message, *self.incomplete()]))
        verify(self.folder / pointed)
        return self.folder / pointed

    def resolve(self, checkpoint: str) -> Path:
        """Folder of a checkpoint of this run that a person names.

        Args:
            checkpoint: `best`, `latest`, a checkpoint's name, or the path of its folder.

        Raises:
            CheckpointError: There is none, it is damaged, or it is of another run.
        """
        path = Path(checkpoint)
        # A name is never taken for a path: `best` may also be a folder where the user is.
        if checkpoint in (BEST, LATEST, *self.names()) or len(path.parts) == 1:
            return self.open(checkpoint)
        if path.resolve().parent != self.folder.resolve():
            raise CheckpointError(
                f"{checkpoint}: is no checkpoint of the run in {self.folder.parent}; to start a new run from its "
                f"weights, give --init-from"
            )
        return self.open(path.name)

    def set_aside(self, after: str) -> Path | None:
        """Move all checkpoints that are newer than one into a folder of their own, where nothing looks for them.

        Args:
            after: Name of the checkpoint.

        Returns:
            The folder; None when there is no newer checkpoint.

        Raises:
            CheckpointError: They cannot be moved.
        """
        newer = [name for name in self.names() if _age(name) > _age(after)]
        if not newer:
            return None
        number = 1
        while (self.folder / f"aside_{number}").exists():
            number += 1
        aside = self.folder / f"aside_{number}"
        try:
            aside.mkdir()
            # The newest first: whatever an interruption leaves, the checkpoint that is continued is there.
            for name in reversed(newer):
                (self.folder / name).rename(aside / name)
        except OSError as error:
            raise CheckpointError(f"{aside}: later checkpoints could not be kept there ({error})") from error
        return aside

    def newest_sound(self) -> tuple[Path, list[str]]:
        """The newest undamaged checkpoint, and what was wrong with newer ones.

        Raises:
            CheckpointError: None is sound.
        """
        problems = self.incomplete()
        for name in reversed(self.names()):
            try:
                verify(self.folder / name)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            return self.folder / name, problems
        nothing = f"{self.folder}: holds no checkpoint to resume from; start again with --overwrite"
        raise CheckpointError("\n".join(problems) or nothing)


def find_checkpoint(run: Path, checkpoint: str = "best") -> Path:
    """Folder of a checkpoint, verified.

    Args:
        run: A run's folder, or one checkpoint's.
        checkpoint: Of a run: `best`, `latest` or a checkpoint's name.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    if (run / MANIFEST).is_file():
        verify(run)
    if (run / MANIFEST).is_file() or (run / "model.json").is_file():
        return run
    store = CheckpointStore.of_run(run)
    if not store.names():
        message = f"{run}: is no run with a checkpoint; name a folder below runs/ or a checkpoint's folder"
        raise CheckpointError("\n".join([message, *store.incomplete()]))
    return store.open(checkpoint)


def verify(checkpoint: Path) -> None:
    """Compare a checkpoint's files with its manifest.

    Raises:
        CheckpointError: A file is missing or differs.
    """
    manifest = read_json(checkpoint / MANIFEST, _Manifest, CheckpointError, "the checkpoint is not complete")
    for name, digest in manifest.sha256.items():
        file = checkpoint / name
        if file.parent != checkpoint or not file.is_file() or _digest(file) != digest:
            raise CheckpointError(f"{file}: is damaged (its checksum differs from {MANIFEST}); use another checkpoint")


class _Manifest(msgspec.Struct):
    sha256: dict[str, str]


def _age(name: str) -> list[int]:
    """What names of checkpoints are ordered by: epoch, then step within it, as numbers."""
    return [int(number) for number in re.findall(r"\d+", name)]


def _digest(file: Path) -> str:
    with open_bytes(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
