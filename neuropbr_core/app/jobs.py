"""Jobs: the photos of one material, and what became of them.

A job belongs to whoever knows its id, which nobody can guess; there is no list of jobs to ask for. The server's threads
and the page look at a job at the same time, so all changes go through its lock, and the page gets copies.
"""

import errno
import re
import secrets
import shutil
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.files import remove
from neuropbr_core.reporting import ProgressBar, reporter
from neuropbr_core.shown import printable, shortened

ID_BYTES = 16
"""Random bytes of an id: 128 bits, which cannot be tried out."""
_MOST_LINES = 200
LONGEST_NAME = 100
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

JobState = Literal["collecting", "waiting", "working", "done", "failed"]
PhotoState = Literal["uploading", "uploaded", "refused", "used", "left out"]
PackageState = Literal["waiting", "working", "done", "failed"]


class Refused(NeuroPBRError):
    """The app does not do what a request asks for; the message tells its sender why.

    Attributes:
        status: The HTTP status of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class JobStopped(Exception):
    """The job's work ends here: its owner removed it, or the app ends."""


@dataclass
class Photo:
    """A file that was uploaded.

    Attributes:
        number: Its number within the job, from 0 in the order of the uploads.
        name: The name that the user gave it. It is only shown, and is no part of a path.
        state: What became of it.
        path: Its file; None for one that was refused.
        thumbnail: A JPEG file; empty for one that was refused.
        size: `WIDTH×HEIGHT`.
        reason: Why it was refused or left out.
        confidence: Share of the texture in which it agrees with the first photo; None where that is not known.
    """

    number: int
    name: str
    state: PhotoState = "uploading"
    path: Path | None = None
    thumbnail: bytes = b""
    size: str = ""
    reason: str = ""
    confidence: float | None = None

    def snapshot(self) -> dict[str, Any]:
        """What the page shows of it."""
        return {
            "number": self.number,
            "name": self.name,
            "state": self.state,
            "size": self.size,
            "reason": self.reason,
            "confidence": self.confidence,
        }


@dataclass
class ZipFile:
    """A zip file of packages.

    Attributes:
        key: Its name in addresses of its job.
        targets: Names of its packages.
        tileable: Whether the maps are cut so that they tile.
        path: Its file, once `state` is done.
        state: What became of it.
        error: Why it failed.
        bytes: Its size, once `state` is done.
    """

    key: str
    targets: tuple[str, ...]
    tileable: bool
    path: Path
    state: PackageState = "waiting"
    error: str = ""
    bytes: int = 0

    def snapshot(self) -> dict[str, Any]:
        """What the page shows of it."""
        return {
            "key": self.key,
            "targets": self.targets,
            "tileable": self.tileable,
            "state": self.state,
            "error": self.error,
            "bytes": self.bytes,
        }


@dataclass
class Bar:
    """A progress bar of a job.

    Attributes:
        what: What is counted.
        total: Number of items.
        done: Items that are done.
    """

    what: str
    total: int
    done: int = 0


@dataclass
class Job:
    """The photos of one material, and what became of them.

    Attributes:
        id: Its name in addresses.
        folder: Its own folder; everything of it is in there.
        name: The material's name, as the user gave it.
        state: What it does.
        step: What is being done, in words.
        bar: Progress of the step; None where it cannot be counted.
        lines: Reports of the work; the second value tells whether it is a warning.
        error: Why it failed.
        facts: What is known of the maps, by name.
        made_by: What made the maps, for manifests.
        first: Number of the photo from straight above; None before the work was started.
        attempts: How often its work was started.
        photos: Its photos by number.
        zips: Its zip files by key.
        bytes: Bytes of all photos, those that are being uploaded included.
        version: Grows with every change.
        touched: When it was last looked at or worked on, in seconds of `time.monotonic`.
        stopped: Whether its work shall end.
        lock: Held while anything of this is changed.
    """

    id: str
    folder: Path
    name: str = "material"
    state: JobState = "collecting"
    step: str = ""
    bar: Bar | None = None
    lines: list[tuple[str, bool]] = field(default_factory=list)
    error: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    made_by: dict[str, str] = field(default_factory=dict)
    first: int | None = None
    attempts: int = 0
    photos: dict[int, Photo] = field(default_factory=dict)
    zips: dict[str, ZipFile] = field(default_factory=dict)
    bytes: int = 0
    version: int = 0
    touched: float = field(default_factory=time.monotonic)
    stopped: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    _numbers: int = 0

    @property
    def photo_folder(self) -> Path:
        """Folder of the photos."""
        return self.folder / "photos"

    @property
    def preview_file(self) -> Path:
        """The preview, a part of the page."""
        return self.folder / "preview.html"

    @property
    def maps_file(self) -> Path:
        """The maps as floating-point numbers, so that packages of 16 bits lose nothing."""
        return self.folder / "maps.safetensors"

    @property
    def is_open(self) -> bool:
        """Whether photos can be added and removed: not while they are worked on, and once more after they failed."""
        return self.state in ("collecting", "failed")

    @property
    def is_busy(self) -> bool:
        """Whether something of it is waiting, being worked on, or on its way from the browser."""
        with self.lock:
            zips = any(archive.state in ("waiting", "working") for archive in self.zips.values())
            uploads = any(photo.state == "uploading" for photo in self.photos.values())
            return zips or uploads or self.state in ("waiting", "working")

    def change(self, part: "Photo | ZipFile | None" = None, **values: Any) -> None:
        """Set attributes of the job or of one of its parts, and let the page know."""
        with self.lock:
            for name, value in values.items():
                setattr(part or self, name, value)
            self.version += 1
            self.touched = time.monotonic()

    def begin(self, step: str) -> None:
        """Begin a step of the work.

        Raises:
            JobStopped: The work shall end.
        """
        self.go_on()
        self.change(step=step, bar=None)

    def go_on(self) -> None:
        """Nothing, or the end of the work.

        Raises:
            JobStopped: The work shall end.
        """
        if self.stopped:
            raise JobStopped

    def say(self, text: str, *, warning: bool = False) -> None:
        """Add a line to what the page shows."""
        with self.lock:
            self.lines.append((self.shown(text), warning))
            del self.lines[:-_MOST_LINES]
            self.change()

    def shown(self, text: str) -> str:
        """A message with the user's names of files in place of the server's."""
        names = {str(self.photo_folder): "the photos"}
        with self.lock:
            for photo in self.photos.values():
                if photo.path is not None:
                    names[str(photo.path)] = photo.name
                    names[photo.path.name] = photo.name
        # The longest first, and all in one pass: a user's name may look like one of the server's.
        pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        return printable(re.sub(pattern, lambda match: names[match[0]], text))

    def new_photo(self, name: str) -> Photo:
        """Add a photo that has no file yet.

        Args:
            name: The user's name for it.
        """
        # Some browsers send the path of a file.
        last = re.split(r"[/\\]", name)[-1]
        with self.lock:
            photo = Photo(self._numbers, shown_name(last, f"photo {self._numbers + 1}"))
            self._numbers += 1
            self.photos[photo.number] = photo
            self.change()
            return photo

    def uploaded(self) -> list[Photo]:
        """Photos with files, in the order of the uploads."""
        with self.lock:
            return [photo for photo in self.photos.values() if photo.path is not None]

    def snapshot(self) -> dict[str, Any]:
        """What the page shows of it, as plain data."""
        with self.lock:
            bar = None
            if self.bar is not None:
                bar = {"what": self.bar.what, "total": self.bar.total, "done": self.bar.done}
            return {
                "id": self.id,
                "version": self.version,
                "name": self.name,
                "state": self.state,
                "step": self.step,
                "bar": bar,
                "lines": [{"text": text, "warning": warning} for text, warning in self.lines],
                "error": self.error,
                "facts": self.facts,
                "first": self.first,
                "photos": [photo.snapshot() for photo in self.photos.values()],
                "zips": [archive.snapshot() for archive in self.zips.values()],
            }


class JobReporter:
    """Shows reports of the work on a job's page, and ends work that nobody wants any more.

    Long work reports often, so that these are the places where it can end.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def line(self, text: str) -> None:
        """Show a line."""
        self._job.go_on()
        self._job.say(text)

    def warning(self, text: str) -> None:
        """Show a warning."""
        self._job.go_on()
        self._job.say(text, warning=True)

    def bar(
        self,
        total: int,
        what: str,
        *,
        done: int = 0,
        keep: bool = False,  # noqa: ARG002 - the signature is the protocol's
        shown: bool | None = None,  # noqa: ARG002
    ) -> ProgressBar:
        """Show a bar."""
        self._job.change(bar=Bar(what, total, done))
        return _JobBar(self._job)


class _JobBar:
    """The bar of a job."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def advance(self) -> None:
        """Move the bar."""
        self._job.go_on()
        with self._job.lock:
            if self._job.bar is not None:
                self._job.bar.done += 1
            self._job.change()

    def note(self, text: str) -> None:
        """Show nothing: the page has no place for it."""

    def close(self) -> None:
        """Remove the bar."""
        self._job.change(bar=None)


class Jobs:
    """All jobs, by their ids.

    Args:
        folder: An empty folder for their files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def create(self, most: int) -> Job:
        """Add an empty job.

        Args:
            most: Jobs that are kept at a time.

        Raises:
            Refused: There are as many already.
        """
        with self._lock:
            if len(self._jobs) >= most:
                raise Refused(
                    503, f"{most} materials are kept already, which is the most; remove one, or wait until one expires"
                )
            job_id = secrets.token_urlsafe(ID_BYTES)
            # The folder has another name, because messages and lists of open files show it.
            job = Job(job_id, self._folder / f"job-{secrets.token_hex(4)}")
            job.photo_folder.mkdir(parents=True)
            self._jobs[job_id] = job
            return job

    def find(self, job_id: str) -> Job:
        """Find a job.

        Raises:
            Refused: There is none of this id, or none any more.
        """
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise Refused(
                404, "This material is not here any more: it was removed, it expired, or the app was restarted."
            )
        job.touched = time.monotonic()
        return job

    def remove(self, job: Job) -> None:
        """Forget a job and remove its files; work on it ends soon."""
        with self._lock:
            self._jobs.pop(job.id, None)
        job.change(stopped=True)
        # Work that is going on removes the folder once more when it ends, because it may still write.
        remove(job.folder)

    def expired(self, kept_seconds: float) -> list[Job]:
        """Jobs that nobody has looked at for some time, and that nothing is done for."""
        now = time.monotonic()
        return [job for job in self if not job.is_busy and now - job.touched > kept_seconds]

    def __iter__(self) -> Iterator[Job]:
        """Go through all jobs as they are now."""
        with self._lock:
            return iter(list(self._jobs.values()))


def need_space(folder: Path, least: int) -> None:
    """Refuse work when the disk is nearly full.

    Args:
        folder: A folder on the disk.
        least: Bytes that stay free.

    Raises:
        Refused: Fewer bytes are free.
        OSError: The folder is gone.
    """
    if shutil.disk_usage(folder).free < least:
        raise Refused(507, "The disk of temporary files is full; free some space on it.")


def as_refusal(error: Exception) -> Refused:
    """A fault in the words of the page; a fault of the program or the machine is told on the console too."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, NeuroPBRError):
        return Refused(400, str(error))
    if isinstance(error, OSError):
        # Without the path, which is the server's own.
        problem = f"The app's folder cannot be used: {(error.strerror or type(error).__name__).lower()}"
        if error.errno in _NO_SPACE:
            return Refused(507, f"{problem}; free some space on the disk of temporary files.")
    elif isinstance(error, MemoryError):
        problem = "There is not enough memory; use fewer photos, or end other programs."
    else:
        problem = f"{type(error).__name__}: {error}"
    reporter().warning("".join(traceback.format_exception(error)))
    return Refused(500, problem)


def shown_name(name: str, otherwise: str) -> str:
    """A user's name for a file or a material, on one line and of a length that can be shown.

    Args:
        name: Whatever the user sent.
        otherwise: The name in place of an empty one.
    """
    return shortened(name.strip(), LONGEST_NAME) or otherwise
