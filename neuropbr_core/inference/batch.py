"""Maps for many captures by one model: a folder for each, and a table of all.

OUTPUT/batch.json     the table, written again after every capture
OUTPUT/batch.html     the table with pictures
OUTPUT/NAME/          maps, views/, preview.jpg and packages of one capture; there whole or not at all
"""

import hashlib
import json
import math
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
from PIL import Image

from neuropbr_core.data.layout.paths import CAMERAS_NAME, list_photos
from neuropbr_core.errors import DataError, NeuroPBRError
from neuropbr_core.files import replacing, write_json
from neuropbr_core.inference.doubts import find_doubts
from neuropbr_core.inference.effort import Effort, predict_maps
from neuropbr_core.inference.predict import (
    ExportedGenerator,
    LoadedGenerator,
    resample_confidence,
    write_confidence,
    write_maps,
    write_views,
)
from neuropbr_core.inference.views import read_capture
from neuropbr_core.maps import MAPS
from neuropbr_core.outputs import Material, Target, material_name, write_packages
from neuropbr_core.ownership import RECORD, is_as_written, lies_in, refuse_foreign, remember_written, wrote
from neuropbr_core.reading import is_plain_name, read_json
from neuropbr_core.report.batch_page import CaptureLine, write_batch_page
from neuropbr_core.report.pictures import colour_picture
from neuropbr_core.report.writing import check_report_place
from neuropbr_core.reporting import SilentReporter, reporter, reporting_to
from neuropbr_core.shown import printable
from neuropbr_core.viewer.studio import render_ball

TABLE = "batch.json"
PAGE = "batch.html"
BALL = "preview.jpg"
_BALL_SIDE = 128
INTERVAL = 2.0
"""Seconds between two looks at watched folders. Photos count as copied when a look finds them as the last one did."""


@dataclass(frozen=True)
class Capture:
    """Photos of one material.

    Attributes:
        name: Its name in the batch: the path of its folder, with `/` between folders.
        folder: Its folder.
    """

    name: str
    folder: Path


@dataclass(frozen=True)
class Order:
    """What is made of each capture.

    Attributes:
        effort: How the maps are predicted.
        size: Side to which they are resampled; None for as they are.
        tileable: Whether they are cut so that they tile.
        targets: Packages to write beside the maps.
        strict: Whether photos that make the maps doubtful are refused.
    """

    effort: Effort = field(default_factory=Effort)
    size: int | None = None
    tileable: bool = False
    targets: tuple[Target, ...] = ()
    strict: bool = False

    @property
    def key(self) -> list[Any]:
        """The order as plain data, by which a later call knows whether it asks for the same."""
        # Not the memory that tiles may take: it does not change the maps.
        targets = []
        for target in self.targets:
            targets.append([target.name, repr(target.chosen.entry), repr(target.chosen.options)])
        effort = [self.effort.ensemble, self.effort.resolution, self.effort.refine]
        return [*effort, self.size, self.tileable, targets, self.strict]


class Row(msgspec.Struct, frozen=True):
    """One capture in the table.

    Attributes:
        name: Its name.
        folder: Folder of its photos.
        state: Whether its maps are there.
        key: Digest of photos, model and order.
        seconds: How long it took.
        photos: Photos that were used.
        size: Side of the maps in pixels.
        sharpness: Fine detail of the albedo as a share of the photos'; None where it is not finite.
        confidence: Mean confidence of refined maps or an ensemble.
        seam_score: How visible the borders are when the material repeats.
        tiles: Whether they show no more than lines inside.
        doubts: What makes the maps doubtful.
        error: Why it failed.
    """

    name: str
    folder: str
    state: Literal["done", "failed"]
    key: str
    seconds: float
    photos: int = 0
    size: int = 0
    sharpness: float | None = None
    confidence: float | None = None
    seam_score: float | None = None
    tiles: bool = False
    doubts: tuple[str, ...] = ()
    error: str = ""


class _Table(msgspec.Struct):
    model: dict[str, str]
    captures: list[Row]


def find_captures(folders: Sequence[Path]) -> list[Capture]:
    """Find captures: folders that hold photos, at any depth. Folders within a capture are not looked into.

    Args:
        folders: Captures, or folders that hold them.

    Raises:
        DataError: A folder is missing, two captures have the same name, one has a name that cannot be written into the
            table, or the maps of one would be within those of another or in the place of the table.
    """
    captures: dict[str, Capture] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; name a capture, or a folder of captures")
        # In the order of the folders that were named, which is the user's.
        for place in _with_photos(folder):
            # A capture that was named itself has the name of its folder.
            name = place.relative_to(folder).as_posix()
            if place == folder:
                name = folder.resolve().name
            # Two names that differ in case, or in how letters with marks are composed, are one on many file systems.
            same = unicodedata.normalize("NFC", name).casefold()
            if same in captures:
                raise DataError(
                    f"{place} and {captures[same].folder}: both are named {name!r} and would have the same folder of "
                    f"maps; rename one of them, or predict them in two batches"
                )
            captures[same] = Capture(name, place)
    found = list(captures.values())
    by_name = {capture.name: capture for capture in found}
    for capture in found:
        _check_name(capture, by_name)
    return found


def _check_name(capture: Capture, captures: Mapping[str, Capture]) -> None:
    """Refuse a name that cannot be written, or whose maps would replace or be replaced by something else."""
    try:
        capture.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{capture.name!a}: the name of the folder is not UTF-8 text; rename it") from None
    path = PurePosixPath(capture.name)
    if path.parts[0] in {TABLE, PAGE}:
        raise DataError(f"{capture.folder}: {path.parts[0]} is the name of the batch's own file; rename the folder")
    for above in path.parents:
        if str(above) in captures:
            raise DataError(
                f"{capture.folder}: its maps would be within those of {captures[str(above)].folder}; rename one of "
                f"them, or predict them in two batches"
            )


def _with_photos(folder: Path) -> Iterator[Path]:
    # Maps that an earlier call wrote are images too, and no photos.
    if wrote(folder, [spec.file_name for spec in MAPS.values()]):
        return
    try:
        inside = sorted(folder.iterdir())
        with reporting_to(SilentReporter()):
            list_photos(folder)
    except DataError:
        pass  # no photos: a folder of captures, perhaps
    except OSError as error:
        # Such as a folder of another user: the captures beside it are predicted.
        reporter().warning(f"{folder}: cannot be looked into: {error.strerror}; it is left out")
        return
    else:
        yield folder
        return
    for inner in inside:
        # Links to folders may lead in a circle.
        if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
            yield from _with_photos(inner)


@dataclass
class Batch:
    """Predicts captures one after the other, and keeps the table.

    Attributes:
        model: The model, loaded once.
        output: Folder of the batch.
        order: What is made of each capture.
        overwrite: Whether files that the project did not write may be replaced.
        rows: Rows of the table by the capture's name, those of earlier calls included.
    """

    model: LoadedGenerator | ExportedGenerator
    output: Path
    order: Order = field(default_factory=Order)
    overwrite: bool = False
    rows: dict[str, Row] = field(default_factory=dict)

    def read(self) -> None:
        """Take over the rows of an earlier call.

        Raises:
            DataError: The table is damaged.
        """
        path = self.output / TABLE
        if not path.exists():
            return
        advice = "move it away, or start again with --overwrite"
        for row in read_json(path, _Table, DataError, advice).captures:
            # The names become paths, and whoever edited the table must not lead them out of the output.
            if not all(is_plain_name(part) for part in row.name.split("/")):
                raise DataError(f"{path}: {row.name!r} is no name of a capture; {advice}")
            self.rows[row.name] = row

    def forget_failed(self, captures: Sequence[Capture]) -> None:
        """Drop the rows of captures that failed earlier and are no longer there."""
        names = {capture.name for capture in captures}
        for name, row in list(self.rows.items()):
            if row.state == "failed" and name not in names:
                del self.rows[name]

    def is_done(self, capture: Capture) -> bool:
        """Whether the maps of a capture are there, of these photos, this model and this order."""
        row = self.rows.get(capture.name)
        if row is None or row.state != "done":
            return False
        try:
            if row.key != self.key(capture):
                return False
        # Photos that are gone or cannot be read: `predict` tells why in the capture's row.
        except (NeuroPBRError, OSError):
            return False
        return is_as_written(self.output / capture.name)

    def key(self, capture: Capture) -> str:
        """Digest of a capture's photos and cameras, the model and the order."""
        # Contents and not times of change: copies of the same photos are the same capture.
        digest = hashlib.sha256(json.dumps([self._model_facts(), self.order.key]).encode())
        with reporting_to(SilentReporter()):
            files = list(list_photos(capture.folder))
        place = capture.folder.resolve()  # of a relative folder, the parents' names are not those above it
        for path in (*files, place / CAMERAS_NAME, place.parent.parent / CAMERAS_NAME):
            if path.is_file():
                digest.update(path.name.encode("utf-8", "surrogateescape"))
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def predict(self, capture: Capture) -> Row:
        """Predict one capture and add it to the table; a fault becomes a row, and no error.

        Raises:
            OSError: The table could not be written.
            KeyboardInterrupt: The user ended it; nothing of the capture is written.
        """
        start = time.monotonic()
        key = ""
        place = printable(str(capture.folder))  # a path that is no UTF-8 cannot be in a JSON file
        try:
            key = self.key(capture)
            facts = self._make(capture)
        except Exception as error:  # whatever is wrong with one capture, the others are predicted
            # Errors of the project explain themselves; those of others need their class.
            text = str(error)
            if not isinstance(error, NeuroPBRError):
                text = f"{type(error).__name__}: {error}"
            row = Row(capture.name, place, "failed", key, _seconds(start), error=printable(text))
        else:
            row = Row(capture.name, place, "done", key, _seconds(start), **facts)
        self.rows[capture.name] = row
        write_json(self.output / TABLE, _Table(self._model_facts(), self._sorted_rows()))
        return row

    def write_page(self) -> None:
        """Write the table with pictures.

        Raises:
            OSError: It could not be written.
        """
        lines: list[CaptureLine] = []
        for row in self._sorted_rows():
            ball = self.output / row.name / BALL
            picture = None
            if row.state == "done" and ball.is_file():
                picture = ball.read_bytes()
            lines.append(_line(row, picture))
        write_batch_page(self.output / PAGE, self.output.resolve().name, lines, self._model_facts())

    def _make(self, capture: Capture) -> dict[str, Any]:
        """Write the folder of a capture; return the facts of its row."""
        place = self.output / capture.name
        _refuse_strangers(place, overwrite=self.overwrite)
        order = self.order
        signature = self.model.signature
        photo_size = signature.photo_size
        if order.effort.resolution:
            photo_size = photo_size * order.effort.resolution // signature.image_size
        views = read_capture(capture.folder, register=self.model.needs_cameras, size=photo_size)
        inputs = self.model.prepare(views)
        doubts = (*views.refusals, *find_doubts(views, inputs, signature))
        if order.strict and doubts:
            raise DataError("\n".join((*doubts, "--strict refuses these photos; no maps were written")))
        predicted = predict_maps(self.model, views, inputs, order.effort)
        if predicted.refinement is not None and predicted.refinement.interrupted:
            # Ctrl-C ends the batch, and a capture that is half refined is not done.
            raise KeyboardInterrupt
        made_by = {**self._model_facts(), **predicted.provenance, "views": str(views.folder)}
        material = Material(material_name(capture.name), predicted.maps, made_by)
        confidence = predicted.confidence
        if order.tileable:
            material = material.tileable()
            # The map of confidence is not cut with the others.
            confidence = None
        if order.size:
            material = material.resized(order.size)
            if confidence is not None:
                confidence = resample_confidence(confidence, order.size)
        # Before anything is written: rendering may fail, too.
        ball = colour_picture(render_ball(material.maps, _BALL_SIDE))
        # All files beside their place and in one step into it: a folder that is there is complete.
        with replacing(place) as aside:
            write_maps(material.maps, aside)
            if confidence is not None:
                write_confidence(confidence, aside)
            write_views(inputs["views"][0], aside / "views")
            Image.fromarray(ball).save(aside / BALL, quality=90)
            write_packages(material, order.targets, aside)
            remember_written(aside, [path for path in aside.rglob("*") if path.is_file()])
        mean_confidence = None
        if predicted.confidence is not None:
            mean_confidence = round(float(predicted.confidence.mean()), 3)
        return {
            "photos": len(views.paths),
            "size": material.size,
            "sharpness": _finite(predicted.sharpness),
            "confidence": mean_confidence,
            "seam_score": _finite(material.seams.worst),
            "tiles": material.seams.tiles,
            "doubts": tuple(map(printable, doubts)),
        }

    def _model_facts(self) -> dict[str, str]:
        return {"model": printable(str(self.model.origin)), **self.model.provenance}

    def _sorted_rows(self) -> list[Row]:
        return sorted(self.rows.values(), key=lambda row: row.name)


def check_batch_place(output: Path, folders: Sequence[Path], *, overwrite: bool, resume: bool) -> None:
    """Refuse an output among the captures, files of others, and a batch that nobody asked to continue.

    Raises:
        DataError: The output cannot be used.
    """
    for folder in folders:
        if lies_in(output, folder):
            raise DataError(
                f"{output}: is within {folder}, where maps would be taken for photos; choose another --output"
            )
        # The maps of a capture replace the folder of its name in the output, which could then be that of its photos.
        if lies_in(folder, output):
            raise DataError(
                f"{folder}: is within the output {output}, where maps would replace photos; choose another --output"
            )
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: is a file; name a folder with --output")
    check_report_place(output / PAGE, overwrite=overwrite)
    if (output / TABLE).exists() and not (resume or overwrite):
        raise DataError(
            f"{output}: holds a batch already; continue it with --resume, predict all of it again with --overwrite, or "
            f"choose another --output"
        )


def watch(
    batch: Batch,
    folders: Sequence[Path],
    tell: Callable[[Row], None],
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Predict captures as they appear in folders, until Ctrl-C.

    Captures that failed are predicted again when their photos change.

    Args:
        batch: The batch.
        folders: Captures, or folders that hold them.
        tell: Receives each new row.
        wait: Waits for some seconds.

    Raises:
        KeyboardInterrupt: The user has enough.
        DataError: As `find_captures`.
        OSError: The table could not be written.
    """
    # The last look, and the photos that were predicted, or failed, last.
    before: dict[str, tuple[Any, ...]] = {}
    judged: dict[str, tuple[Any, ...]] = {}
    while True:
        changed = False
        # The command has said what is left out; it is not said again at each look.
        with reporting_to(SilentReporter()):
            captures = find_captures(folders)
        for capture in captures:
            try:
                state = _state_of(capture)
            except OSError:  # moved or removed while another was predicted
                continue
            # Photos that are being copied differ from one look to the next.
            is_settled = before.get(capture.name) == state
            before[capture.name] = state
            if not is_settled or judged.get(capture.name) == state:
                continue
            judged[capture.name] = state
            if not batch.is_done(capture):
                tell(batch.predict(capture))
                changed = True
        if changed:
            batch.write_page()
        wait(INTERVAL)


def _state_of(capture: Capture) -> tuple[Any, ...]:
    """Names, sizes and times of the files of a capture."""
    state: list[Any] = []
    for path in sorted(capture.folder.iterdir()):
        try:
            status = path.stat()
        except OSError:  # removed since, or a link to nothing
            continue
        state.append((path.name, status.st_size, status.st_mtime_ns))
    return tuple(state)


def _refuse_strangers(place: Path, *, overwrite: bool) -> None:
    """Refuse to replace a folder that holds files of others."""
    if place.is_symlink():
        raise DataError(f"{place}: is a link, which is not replaced; remove it, or choose another --output")
    names: list[str] = []
    if place.is_dir():
        for path in place.rglob("*"):
            if not path.is_dir() and path.name != RECORD:
                names.append(path.relative_to(place).as_posix())
    refuse_foreign(place, names, overwrite=overwrite)


def _line(row: Row, picture: bytes | None) -> CaptureLine:
    if row.state == "failed":
        return CaptureLine(row.name, row.state, picture, ("", "", "", "", f"{row.seconds:.1f}"), (row.error,))
    confidence = ""
    if row.confidence is not None:
        confidence = f"{row.confidence:.2f}"
    sharpness = ""
    if row.sharpness is not None:
        sharpness = f"{row.sharpness:.2f}"
    tiling = f"seams {row.seam_score}"
    if row.tiles:
        tiling = "tiles"
    cells = (str(row.photos), sharpness, confidence, tiling, f"{row.seconds:.1f}")
    return CaptureLine(row.name, row.state, picture, cells, row.doubts)


def _seconds(start: float) -> float:
    return round(time.monotonic() - start, 2)


def _finite(value: float) -> float | None:
    """A number rounded for the table; None where JSON cannot hold it."""
    if math.isfinite(value):
        return round(value, 3)
    return None
