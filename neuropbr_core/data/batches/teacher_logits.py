"""A teacher's predictions on disk: logits of whole frames, in files that are mapped into memory.

A folder of shards. A shard is a safetensors file with the logits of a few samples as float16, `SAMPLE/MAP` by name, and
in its header who predicted them, at which size, and from what: so a sample is found by its id and source, never by its
position, and a folder that does not fit its teacher or its data is an error and not a wrong lesson. A shard appears
whole or not at all and is never changed. A crop reads only its own pixels.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from neuropbr_core.data.batches.crops import Logits
from neuropbr_core.data.layout.findings import raise_problems
from neuropbr_core.errors import DataError
from neuropbr_core.files import replacing, usual_mode
from neuropbr_core.samples import CameraRecord, Sample

SUFFIX = ".safetensors"
FORMAT = 1
_HEADER = "neuropbr"


class TeacherMark(msgspec.Struct, frozen=True):
    """Which network predicted.

    Attributes:
        weights: SHA-256 of its weights.
        model: SHA-256 of its description: architecture, sizes, views, alignment.
    """

    weights: str
    model: str


class SampleMark(msgspec.Struct, frozen=True):
    """What a teacher was shown.

    Attributes:
        id: The sample's id.
        source: Which kind of capture it is, such as `clean` or `dirty`.
        views: Name of the content of each view.
        cameras: Where they were taken from; None for views that were not aligned.
    """

    id: str
    source: str
    views: tuple[str, ...]
    cameras: tuple[CameraRecord, ...] | None = None

    @classmethod
    def of(cls, sample: Sample[Any], views: Sequence[str], cameras: Sequence[CameraRecord] | None) -> "SampleMark":
        """The mark of a sample whose views have these contents."""
        taken_from = None
        if cameras is not None:
            taken_from = tuple(cameras)
        return cls(sample.id, sample.condition, tuple(views), taken_from)


class Header(msgspec.Struct, frozen=True):
    """What a shard says of itself."""

    format: int
    teacher: TeacherMark
    size: int
    samples: tuple[SampleMark, ...]


def write_logits(
    folder: Path, teacher: TeacherMark, size: int, frames: Sequence[tuple[SampleMark, Mapping[str, Logits]]]
) -> Path:
    """Write one shard, whole or not at all.

    Args:
        folder: Made when missing.
        teacher: Who predicted.
        size: Side of the maps in pixels.
        frames: Each sample's logits of whole frames by map.

    Returns:
        The file; its name follows from what it holds.

    Raises:
        DataError: It cannot be written.
    """
    marks = []
    tensors: dict[str, Logits] = {}
    for mark, maps in frames:
        marks.append(mark)
        for name, logits in maps.items():
            tensors[_key(mark.id, name)] = logits
    text = msgspec.json.encode(Header(FORMAT, teacher, size, tuple(marks)))
    # Named by its header: the same samples of the same teacher replace their shard instead of adding another.
    final = folder / f"{hashlib.blake2b(text, digest_size=12).hexdigest()}{SUFFIX}"
    try:
        # Durable, because predicting takes long, and a resumed command relies on the shards that are there.
        with replacing(final, durable=True) as aside, usual_mode(aside):
            save_file(tensors, aside, metadata={_HEADER: text.decode()})
    except (OSError, SafetensorError) as error:
        raise DataError(f"{final}: the shard cannot be written ({error}); shards before it are whole") from error
    return final


@dataclass(frozen=True)
class TeacherLogits:
    """The predictions in a folder; safe to ask from several threads, and cheap to send to another process.

    Attributes:
        folder: The folder.
        teacher: Who predicted; None in a folder without shards.
        size: Side of the maps in pixels; 0 in a folder without shards.
        samples: What was predicted, by id.
    """

    folder: Path
    teacher: TeacherMark | None
    size: int
    samples: dict[str, SampleMark]
    _files: dict[str, Path]
    _open: dict[Path, Any] = field(default_factory=dict, compare=False)

    def window(self, sample: Sample[Any], name: str, x: int, y: int, side: int) -> Logits:
        """Return a square part of one map's logits.

        Args:
            sample: Whose.
            name: Which map.
            x: Left edge in pixels of the stored map.
            y: Upper edge.
            side: Side in pixels.

        Returns:
            `(logit_channels, side, side)`, yours to change.

        Raises:
            DataError: The sample is not there, or its file cannot be read.
        """
        path = self._files.get(sample.id)
        if path is None or self.samples[sample.id].source != sample.condition:
            raise DataError(f"{self.folder}: holds no prediction of {sample.id}, {sample.condition}")
        try:
            # Opened on first use and kept: a crop would otherwise read the header of its shard each time. Two threads
            # that open the same file at once leave one of two equal mappings.
            file = self._open.get(path)
            if file is None:
                file = self._open[path] = safe_open(path, framework="np")
            part: Logits = file.get_slice(_key(sample.id, name))[:, y : y + side, x : x + side]
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: cannot be read ({error}); was it removed? Make the shards again") from error
        return part

    def __getstate__(self) -> dict[str, Any]:
        # A mapping of a file cannot be sent to another process, which opens the file itself.
        return {**self.__dict__, "_open": {}}


def read_logits(folder: Path) -> TeacherLogits:
    """Read the headers of a folder's shards; a folder that is not there has none.

    Raises:
        DataError: A shard is damaged, or they are not all of one teacher and size.
    """
    problems: list[str] = []
    kinds: set[tuple[TeacherMark, int]] = set()
    samples: dict[str, SampleMark] = {}
    files: dict[str, Path] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        # Only headers are read here; all damaged shards are reported at once.
        try:
            file: Any = safe_open(path, framework="np")
            text = (file.metadata() or {})[_HEADER]
            header = msgspec.json.decode(text, type=Header)
        except (OSError, SafetensorError, KeyError, msgspec.DecodeError) as error:
            problems.append(f"{path}: is no sound shard ({error}); remove it and make it again with --resume")
            continue
        if header.format != FORMAT:
            problems.append(
                f"{path}: format {header.format}; this version of neuropbr reads {FORMAT}; make the shards again"
            )
            continue
        kinds.add((header.teacher, header.size))
        for mark in header.samples:
            samples[mark.id] = mark
            files[mark.id] = path
    raise_problems(problems)
    if len(kinds) > 1:
        listed = ", ".join(f"{size} px by {teacher.weights[:12]}" for teacher, size in sorted(kinds, key=repr))
        raise DataError(f"{folder}: holds shards of several kinds ({listed}); keep those of one, or remove the folder")
    teacher, size = next(iter(kinds), (None, 0))
    return TeacherLogits(folder, teacher, size, samples, files)


def differences(shards: TeacherLogits, teacher: TeacherMark, size: int, wanted: Iterable[SampleMark]) -> list[str]:
    """What stands between shards and their use, apart from samples that they lack.

    Args:
        shards: What is there.
        teacher: Who should have predicted.
        size: Side that the maps should have, in pixels.
        wanted: The samples as they are now. One may have fewer views than it was predicted from, and cameras may be
            unknown on either side.

    Returns:
        A line for each difference; none when there are no shards.
    """
    if shards.teacher is None:
        return []
    lines: list[str] = []
    parts: list[str] = []
    for name in ("weights", "model"):
        there = getattr(shards.teacher, name)
        here = getattr(teacher, name)
        if there != here:
            parts.append(f"{name} {there[:12]} there, {here[:12]} wanted")
    if parts:
        lines.append(f"made by another teacher: {'; '.join(parts)}")
    if shards.size != size:
        lines.append(f"maps of {shards.size} px there, {size} px wanted")
    for mark in wanted:
        stored = shards.samples.get(mark.id)
        # Samples that are missing are no difference: a resumed command predicts them.
        if stored is None:
            continue
        if stored.source != mark.source:
            lines.append(f"{mark.id}: source {stored.source} there, {mark.source} wanted")
        changed: list[str] = []
        # A student may read fewer views of a sample than its teacher did; only views that both have are compared.
        for view, (before, now) in enumerate(zip(stored.views, mark.views, strict=False)):
            if before != now:
                changed.append(str(view))
        if changed:
            lines.append(f"{mark.id}: view {', '.join(changed)} changed since it was predicted")
        shown = (stored.cameras or ())[: len(mark.views)]
        known = (mark.cameras or ())[: len(stored.views)]
        # Without alignment nobody needs cameras, so they are compared only where both sides know them.
        if shown and known and shown != known:
            lines.append(f"{mark.id}: its cameras changed since it was predicted")
    return lines


def require(shards: TeacherLogits, teacher: TeacherMark, size: int, wanted: Sequence[SampleMark]) -> None:
    """Refuse shards that do not fit their teacher or the data, or that lack a sample.

    Raises:
        DataError: What differs, all of it.
    """
    lines = differences(shards, teacher, size, wanted)
    for mark in wanted:
        if mark.id not in shards.samples:
            lines.append(f"{mark.id}: is missing")
    problems = []
    for line in lines:
        problems.append(f"{shards.folder}: {line}")
    if problems:
        problems.append("remove the folder to have it made again, or name another in teacher.shards")
    raise_problems(problems)


def _key(sample: str, name: str) -> str:
    return f"{sample}/{name}"
