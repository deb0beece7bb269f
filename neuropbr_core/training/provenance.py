"""The record of a run, `provenance.json`: versions, command, components, data, and the split of the materials.

A student reads its teacher's record, and an evaluation reads it to score what was held back.
"""

import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from neuropbr_core import __version__
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_json
from neuropbr_core.recipe.sections import Recipe

PROVENANCE = "provenance.json"


def write_provenance(run_dir: Path, recipe: Recipe, facts: dict[str, Any]) -> None:
    """Write a run's record, in place of an earlier one.

    Args:
        run_dir: The run's folder.
        recipe: The resolved recipe.
        facts: What is known once the data are open: `data` (fingerprint), `split`, and `teacher` when there is one.
    """
    # With distribution and version, so that a run can be repeated with the components that it had.
    components = [recipe.source, recipe.encoder, recipe.fusion]
    for section in (recipe.losses, recipe.observers, recipe.export):
        components.extend(section.values())
    document = {
        "neuropbr": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # of a type of its own, which JSON does not know
        "platform": platform.platform(),
        "command": sys.argv,
        "seed": recipe.training.seed,
        "components": [component.provenance for component in components],
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
    try:
        split = json.loads(provenance.read_text(encoding="utf-8"))["split"]
        return {"train": list(split["train"]), "val": list(split["val"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{provenance}: does not say which materials the run trained on ({error!r})") from error


def recorded_teacher(provenance: Path) -> dict[str, str] | None:
    """What a student's run recorded of its teacher (`TrainedTeacher.record`); None for a run without one.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        teacher: dict[str, str] | None = json.loads(provenance.read_text(encoding="utf-8")).get("teacher")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{provenance}: does not say which teacher the run has ({error!r})") from error
    return teacher
