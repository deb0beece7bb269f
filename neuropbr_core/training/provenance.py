"""The record of a run, `provenance.json`: versions, command, components, data, and the split of the materials.

A student reads its teacher's record, and an evaluation reads it to score what was held back.
"""

import platform
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from neuropbr_core import __version__
from neuropbr_core.data.splits import Split
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_json
from neuropbr_core.reading import read_json
from neuropbr_core.recipe.sections import Recipe

PROVENANCE = "provenance.json"


class RecordedComponent(msgspec.Struct):
    """A component that a run used, as `Entry.provenance` describes it; a text that the record lacks is empty."""

    kind: str = ""
    name: str = ""
    distribution: str = ""
    version: str = ""
    entry_point: str = ""


def write_provenance(run_dir: Path, recipe: Recipe, facts: dict[str, Any]) -> None:
    """Write a run's record, in place of an earlier one.

    Args:
        run_dir: The run's folder.
        recipe: The resolved recipe.
        facts: What is known once the data are open: `data` (fingerprint), `split`, `drawn` (materials of drawn visits),
            and `teacher` and `init_from` when there are any.
    """
    document = {
        "neuropbr": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # of a type of its own, which JSON does not know
        "platform": platform.platform(),
        "command": sys.argv,
        "seed": recipe.training.seed,
        # With distribution and version, so that a run can be repeated with the components that it had.
        "components": [component.provenance for component in recipe.components],
        **facts,
    }
    write_json(run_dir / PROVENANCE, document)


def recorded_split(provenance: Path) -> dict[str, list[str]]:
    """Materials on each side, `train` and `val`, as a run recorded them.

    Args:
        provenance: The run's `provenance.json`.

    Raises:
        DataError: The file is missing or damaged, or has no split.
    """
    split = _read(provenance, "which materials the run trained on").split
    if split is None:
        raise DataError(f"{provenance}: does not say which materials the run trained on: it has no `split`")
    return {"train": list(split.train), "val": list(split.val)}


def recorded_drawn(provenance: Path) -> tuple[str, ...] | None:
    """Materials that a run's drawn visits may have shown; None where they are not all known.

    Raises:
        DataError: The file is missing or damaged.
    """
    return _read(provenance, "which materials the run's visits were drawn from").drawn


def recorded_trained(provenance: Path) -> tuple[str, ...]:
    """All materials that a run is known to have learnt from: those of its split, and those of its drawn visits.

    Raises:
        DataError: The file is missing or damaged, or has no split.
    """
    split = recorded_split(provenance)
    drawn = recorded_drawn(provenance) or ()
    return tuple(sorted({*split["train"], *drawn}))


def recorded_data(provenance: Path) -> str:
    """Digest of the data that a run was started with; empty when the record has none.

    Raises:
        DataError: The file is missing or damaged.
    """
    data = _read(provenance, "which data the run was started with").data
    if not isinstance(data, str):
        return ""
    return data


def recorded_teacher(provenance: Path) -> dict[str, str] | None:
    """What a student's run recorded of its teacher (`TrainedTeacher.record`); None for a run without one.

    Raises:
        DataError: The file is missing or damaged.
    """
    teacher = _read(provenance, "which teacher the run has").teacher
    if teacher is None:
        return None
    record: dict[str, str] = msgspec.to_builtins(teacher)
    return record


def recorded_start(provenance: Path) -> dict[str, str] | None:
    """The weights that a run started from, as `checkpoint` and SHA-256 `weights`; None for a run that started anew.

    Raises:
        DataError: The file is missing or damaged.
    """
    start = _read(provenance, "which weights the run started from").init_from
    if start is None:
        return None
    record: dict[str, str] = msgspec.to_builtins(start)
    return record


def recorded_sources(provenance: Path) -> list[dict[str, str]]:
    """The weights that a run learnt from, as `checkpoint` and SHA-256 `weights`: its start's and its teacher's.

    Raises:
        DataError: The file is missing or damaged.
    """
    return [source for source in (recorded_start(provenance), recorded_teacher(provenance)) if source is not None]


def recorded_components(provenance: Path) -> tuple[RecordedComponent, ...]:
    """The components that a run was started with.

    Raises:
        DataError: The file is missing or damaged.
    """
    return _read(provenance, "which components the run was started with").components


class _Start(msgspec.Struct):
    """The weights that a run started from."""

    checkpoint: str
    weights: str


class _TeacherRecord(msgspec.Struct):
    checkpoint: str
    weights: str
    model: str


class _Document(msgspec.Struct):
    """What the file holds; versions, command, platform and seed are for people alone."""

    neuropbr: str = ""
    python: str = ""
    torch: str = ""
    platform: str = ""
    command: tuple[str, ...] = ()
    seed: int = 0
    components: tuple[RecordedComponent, ...] = ()
    data: Any = None
    split: Split | None = None
    drawn: tuple[str, ...] | None = None
    teacher: _TeacherRecord | None = None
    init_from: _Start | None = None


def _read(provenance: Path, purpose: str) -> _Document:
    return read_json(provenance, _Document, DataError, f"so nothing says {purpose}")
