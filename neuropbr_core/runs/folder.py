"""The folder of a run: `runs/<name>/`."""

import json
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neuropbr_core import __version__
from neuropbr_core.errors import DataError, RunError
from neuropbr_core.files import write_text
from neuropbr_core.recipe import dump_recipe, load_recipe
from neuropbr_core.recipe.merge import read_tree
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry import Chosen
from neuropbr_core.training.checkpoints.store import CheckpointStore

RECIPE, PROVENANCE = "recipe.yaml", "provenance.json"


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints."""
        return CheckpointStore(self.path / "checkpoints")

    @property
    def exports(self) -> Path:
        """Folder of exported models."""
        return self.path / "exports"

    @classmethod
    def around(cls, path: Path) -> "RunFolder | None":
        """The run that `path` is, or is a checkpoint of; None when it is neither."""
        path = path.resolve()
        candidates = (path, path.parent.parent) if path.parent.name == "checkpoints" else (path,)
        return next((cls(folder) for folder in candidates if (folder / RECIPE).is_file()), None)

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe that the run was started with."""
        return self.path / RECIPE

    def recipe_name(self) -> str:
        """Name of the recipe, without loading its components."""
        root, _ = read_tree(self.recipe_file, (), lambda _, use: use)
        return str(root.plain().get("name", self.name))

    def recipe(self) -> Recipe:
        """The resolved recipe that the run was started with.

        Raises:
            RunError: The folder is no run.
        """
        if not (self.path / RECIPE).is_file():
            raise RunError(f"{self.path}: is no run (it has no {RECIPE}); name a folder that `neuropbr run` made")
        return load_recipe(self.path / RECIPE)


def find_run(path: Path, *, resume: bool, overwrite: bool) -> RunFolder:
    """Check that a run may live in a folder; changes nothing.

    Raises:
        RunError: Both flags are given; the folder is taken and neither is; it is no run and must not be removed; or
            there is nothing to resume.
    """
    if resume and overwrite:
        raise RunError(f"{path}: a run is resumed or overwritten, not both; leave one out")
    folder = RunFolder(path)
    is_run = (path / RECIPE).is_file()
    if resume:
        if not is_run:
            raise RunError(f"{path}: there is no run to resume; leave out --resume to start one")
        return folder
    if path.exists() and any(path.iterdir()):
        if not overwrite:
            raise RunError(
                f"{path}: there is a run of that name already; continue it with --resume, replace it with --overwrite, "
                f"or choose another name with --run-name"
            )
        if not is_run:
            raise RunError(f"{path}: is not empty and no run, so --overwrite will not remove it; choose another name")
    return folder


def make_room(folder: RunFolder, *, overwrite: bool) -> None:
    """Make the folder of a run that `find_run` allowed; with `overwrite`, what was in it is removed."""
    if overwrite and folder.path.exists():
        shutil.rmtree(folder.path)
    folder.path.mkdir(parents=True, exist_ok=True)


def check_resumable(old: Recipe, new: Recipe) -> None:
    """Refuse to continue a run with another network or other losses.

    Raises:
        RunError: `model` or `losses` differ.
    """
    for section in ("model", "losses"):
        if old.tree[section] != new.tree[section]:
            raise RunError(
                f"cannot resume: section `{section}` differs from the recipe that the run was started with; use "
                f"--run-name for a new run (`neuropbr recipe diff` shows the differences)"
            )


def write_records(folder: RunFolder, recipe: Recipe, facts: dict[str, Any]) -> None:
    """Write `recipe.yaml` and `provenance.json`.

    Args:
        folder: The run.
        recipe: The resolved recipe.
        facts: What the run found: device, data fingerprint, split.
    """
    write_text(folder.path / RECIPE, dump_recipe(recipe))
    document = {
        "neuropbr": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "command": sys.argv,
        "seed": recipe.training.seed,
        "components": [part.provenance for part in _components(recipe)],
        **facts,
    }
    write_text(folder.path / PROVENANCE, json.dumps(document, indent=2) + "\n")


def recorded_split(provenance: Path) -> dict[str, list[str]]:
    """Materials on each side, `train` and `val`, as a run recorded them.

    Args:
        provenance: The run's `provenance.json`.

    Raises:
        DataError: It is missing, or does not say.
    """
    try:
        split = json.loads(provenance.read_text(encoding="utf-8"))["split"]
        return {side: list(split[side]) for side in ("train", "val")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{provenance}: does not say which materials the run trained on ({error!r})") from error


def _components(recipe: Recipe) -> list[Chosen]:
    named = (recipe.losses, recipe.observers, recipe.export)
    return [recipe.source, recipe.encoder, recipe.fusion, *(part for parts in named for part in parts.values())]
